// What the server has written into the page: how people sign in here. The rest the page asks the API for.

export interface Boot {
  /** Where people sign in; null where nobody has said. */
  login_url: string | null
  /** Who everybody is, where nobody signs in. */
  dev_user: string | null
  version: string
  /** Whether a cookie says who is asking. */
  cookie: boolean
}

const written = document.getElementById('slipway')?.textContent

export const boot: Boot = { login_url: null, dev_user: null, version: '', cookie: false, ...(written ? JSON.parse(written) : {}) }
