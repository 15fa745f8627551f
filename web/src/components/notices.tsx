import { dismiss, notices } from '../notices'
import { Cancel } from './icons'

export function Notices() {
  return (
    <div class="notices" role="status">
      {notices.value.map((n) => (
        <p key={n.id} class={n.bad ? 'notice bad' : 'notice'}>
          {n.text}
          <button type="button" class="bare" aria-label="Dismiss" onClick={() => dismiss(n.id)}><Cancel /></button>
        </p>
      ))}
    </div>
  )
}
