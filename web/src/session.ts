// Who is asking: a cookie that the browser sends by itself, or a token that came in the page's address as #token=….
import { signal } from '@preact/signals'
import { boot } from './boot'

const key = 'slipway:token'

let token = sessionStorage.getItem(key)
let user = '' // who is asking, once the API has said so,
let by = token // and of which token
let known: Promise<void> | undefined // settled when it has

/** Whether the API has refused what this page shows of who is asking. */
export const signedOut = signal(false)

/** Grows each time somebody has signed in again. */
export const signIns = signal(0)

/** Grows each time it was somebody else: what is here was not meant for them. */
export const strangers = signal(0)

// Other tabs, one of which may be where somebody has just signed in.
const tabs = new BroadcastChannel('slipway')
tabs.onmessage = ({ data }) => signedOut.value && typeof data === 'string' && use(data)

/** An upload token sends and reads; it changes nothing. */
export const mayChange = () => !token?.startsWith('slt_')

/** Whether links to the API open by themselves: they cannot where only a header says who is asking. */
export const linksOpen = () => token === null

export const authorization = (): Record<string, string> => (token ? { Authorization: `Bearer ${token}` } : {})

/** Notes that the API has answered 401 to what was shown. */
export function refused(): void {
  signedOut.value = true
}

/** Ends when somebody is signed in; at once, as far as is known. */
export const signedIn = async (): Promise<void> => {
  for (let asked; asked !== known; await asked) asked = known
  await new Promise<void>((done) => {
    const stop = signedOut.subscribe((out) => {
      if (out) return
      done()
      queueMicrotask(() => stop())
    })
  })
}

/** Asks the API who is asking. */
export async function confirmed(): Promise<void> {
  const asked = token
  const answer = await fetch('/v1/usage', { headers: authorization() }).catch(() => null)
  const said = answer?.ok ? await answer.json().catch(() => null) : null
  if (asked !== token) return
  if (answer?.status === 401 || (!said && user !== '' && by !== token)) refused()
  if (!said) return
  const changed = user !== '' && user !== said.user_id
  user = said.user_id
  by = token
  if (changed) strangers.value++
  if (!changed && !signedOut.value) return
  signedOut.value = false
  signIns.value++
}

/** Where to sign in, and come back from to this page. */
export function loginAddress(): string | null {
  if (!boot.login_url) return null
  const address = new URL(boot.login_url, location.href)
  address.searchParams.set('return_to', location.origin + location.pathname)
  return address.href
}

function use(fresh: string) {
  token = fresh
  sessionStorage.setItem(key, fresh)
  known = confirmed()
}

// takeToken keeps a token that stands in the address, and takes it out of there.
function takeToken() {
  const found = new URLSearchParams(location.hash.slice(1)).get('token')
  if (!found) return
  history.replaceState(history.state, '', location.pathname + location.search)
  use(found)
  tabs.postMessage(found)
}

takeToken()
known ??= confirmed()
addEventListener('hashchange', takeToken)
// Whoever was away may have signed in elsewhere, as somebody else as well.
addEventListener('focus', () => void confirmed())
