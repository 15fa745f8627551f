import { copy } from '../actions'
import { provider } from '../sender'
import { linksOpen } from '../session'
import { title } from '../words'

/** What somebody sees who has sent nothing yet. */
export function Empty() {
  const line = `curl ${linksOpen() ? '' : '-H "Authorization: Bearer $SLIPWAY_TOKEN" '}-X POST ${location.origin}/upload -F "file=@film.mp4" -F "fileName=film.mp4"`
  return (
    <div class="empty">
      <h2>Nothing here yet</h2>
      <ol>
        <li>Choose a file, or drop one on this page. It is received here first; from then on it is safe, and you may close the tab.</li>
        <li>Slipway delivers it to {title(provider.value)}, and tries again by itself when that is down.</li>
        <li>Here you see how far it is and why, and get its address once it is there.</li>
      </ol>
      <p>Or send one from the command line; it shows up here as well:</p>
      <pre tabIndex={0}>{line}</pre>
      <button type="button" class="plain small" onClick={() => copy(line, 'The line')}>Copy the line</button>
    </div>
  )
}
