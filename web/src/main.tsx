// The page: who is asking, then what is there, then what happens.
import { effect } from '@preact/signals'
import { render } from 'preact'
import '@uppy/core/css/style.min.css'
import '@uppy/dashboard/css/style.min.css'
import './style/page.css'
import './style/uploads.css'
import './style/panel.css'
import './style/uppy.css'
import { App } from './components/app'
import { follow } from './events'
import { logged } from './history'
import { limitsChanged, refreshLimits } from './limits'
import { complain } from './notices'
import { signIns } from './session'
import { happened, reload } from './uploads'

render(<App />, document.body)

effect(() => {
  signIns.value
  refreshLimits().catch((error) => error.status === 401 || complain(error))
})

void follow(
  {
    fresh: () => void reload(),
    event(e) {
      happened(e)
      logged(e)
      if (e.type === 'status') limitsChanged()
    },
  },
  new AbortController().signal,
)
