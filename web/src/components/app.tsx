import { useEffect } from 'preact/hooks'
import { limits } from '../limits'
import { pending } from '../sender'
import { signedOut } from '../session'
import { count } from '../words'
import { Confirm } from './confirm'
import { Header } from './header'
import { List } from './list'
import { Notices } from './notices'
import { Panel } from './panel'
import { Send } from './send'
import { SignIn } from './signin'

export function App() {
  const begun = limits.value !== null
  const left = pending.value
  useEffect(() => {
    document.title = left > 0 ? `${count(left, 'file')} coming in · Slipway` : 'Slipway'
  }, [left])
  return (
    <>
      <Header />
      {signedOut.value && begun && <SignIn inMiddle />}
      <main>
        {signedOut.value && !begun ? <SignIn /> : <><Send /><List /></>}
      </main>
      <Panel />
      <Confirm />
      <Notices />
    </>
  )
}
