import { boot } from '../boot'
import { now } from '../clock'
import { connection } from '../events'
import { signedOut } from '../session'
import { soon } from '../words'

export function Header() {
  return (
    <header class="top">
      <h1 title={boot.version && `Slipway ${boot.version}`}><svg viewBox="0 0 32 32" width="26" height="26" aria-hidden="true"><path d="M6 13h20l-3.4 7.2a3 3 0 0 1-2.7 1.8H12.1a3 3 0 0 1-2.7-1.8zM15 4h2v8h-2zM18 5l6 5.6h-6z" /><path d="M2 24.6 30 28v2L2 26.6z" opacity=".5" /></svg>Slipway</h1>
      <Live />
      {boot.dev_user && <span class="who" title="Everybody here is this user">{boot.dev_user}</span>}
    </header>
  )
}

// Servers end streams when they are restarted, and proxies when they like: that is over before somebody has read of it.
const worthAWord = 2500

/** Says when what is shown is not what is. */
function Live() {
  const state = connection.value
  const lost = !state.live && state.next !== null && !signedOut.value && now.value - state.since > worthAWord
  const again = lost && soon(new Date(state.next!).toISOString(), now.value)
  return <p class="live" role="status">{lost && <>No connection to Slipway<span aria-hidden="true">; asked again {again}</span>.</>}</p> // read out once, not each second
}
