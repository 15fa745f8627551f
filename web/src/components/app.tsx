import { limits } from '../limits'
import { signedOut } from '../session'
import { Confirm } from './confirm'
import { Header } from './header'
import { List } from './list'
import { Notices } from './notices'
import { Panel } from './panel'
import { Send } from './send'
import { SignIn } from './signin'

export function App() {
  const begun = limits.value !== null
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
