import { useState } from 'preact/hooks'
import { post, type Upload } from '../api'
import { limitsChanged } from '../limits'
import { provider } from '../sender'
import { take } from '../uploads'

/** Has a file fetched from the web. */
export function Import() {
  const [url, write] = useState('')
  const [busy, setBusy] = useState(false)
  const [problem, setProblem] = useState<string | null>(null)

  async function ask(e: SubmitEvent) {
    e.preventDefault()
    setBusy(true)
    try {
      take(await post<Upload>('/v1/uploads', { url: url.trim(), provider: provider.value }))
      write('')
      setProblem(null)
      limitsChanged()
    } catch (error) {
      setProblem((error as Error).message)
    }
    setBusy(false)
  }

  return (
    <form class="import" onSubmit={ask}>
      <label for="import-url">Or have a file fetched from the web</label>
      <div>
        <input
          id="import-url" type="url" required placeholder="https://…" value={url} aria-invalid={problem !== null} aria-describedby="import-problem"
          onInput={(e) => write(e.currentTarget.value)}
        />
        <button type="submit" class="plain" disabled={busy}>Fetch</button>
      </div>
      <p id="import-problem" class="problem" role="alert">{problem}</p>
    </form>
  )
}
