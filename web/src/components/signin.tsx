import { boot } from '../boot'
import { confirmed, loginAddress } from '../session'

/** What somebody sees of whom the API does not know who it is; `inMiddle` where the page is in use. */
export function SignIn({ inMiddle = false }: { inMiddle?: boolean }) {
  const address = loginAddress()
  return (
    <section class={inMiddle ? 'signin banner' : 'signin'} role={inMiddle ? 'alert' : undefined} aria-labelledby="signin-title">
      <h2 id="signin-title">{inMiddle ? 'You are signed out' : 'Sign in to see your uploads'}</h2>
      {inMiddle && <p>The files that you have chosen wait here, and go on once you are signed in again{address && ' in the other tab'}.</p>}
      {!address && <p>{boot.cookie ? 'Sign in at the app that this Slipway belongs to, and come back.' : <>This page needs a token. Whoever runs this Slipway gives out links to it, with <code>#token=…</code> at their end.</>}</p>}
      <div class="choices">
        {address && <a class="primary" href={address} target={inMiddle ? '_blank' : undefined} rel={inMiddle ? 'noopener' : undefined}>Sign in</a>}
        {(inMiddle || !address) && <button type="button" class="plain" onClick={() => confirmed()}>Try again</button>}
      </div>
    </section>
  )
}
