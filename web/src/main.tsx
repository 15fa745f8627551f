// The page: who is asking, then what is there, then what happens; all of it anew when somebody else may have signed in.
import { effect, untracked } from '@preact/signals'
import { render } from 'preact'
import '@uppy/core/css/style.min.css'
import '@uppy/dashboard/css/style.min.css'
import './style/page.css'
import './style/uploads.css'
import './style/panel.css'
import './style/uppy.css'
import type { Event } from './api'
import { App } from './components/app'
import { follow } from './events'
import { logged } from './history'
import { limitsChanged, refreshLimits } from './limits'
import { complain } from './notices'
import { signIns } from './session'
import { forgetUploads, happened, reload } from './uploads'

render(<App />, document.body)

effect(() => {
  signIns.value
  const stop = new AbortController()
  untracked(() => {
    forgetUploads()
    refreshLimits().catch((error) => error.status === 401 || complain(error))
    void follow({ fresh, event }, stop.signal)
  })
  return () => stop.abort()
})

function fresh() {
  void reload()
  limitsChanged()
}

function event(e: Event) {
  happened(e)
  logged(e)
  if (e.type === 'status') limitsChanged()
}
