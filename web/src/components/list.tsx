import { selectAll } from '../selection'
import { listed, loading, loadMore, narrowed, next, problem, reload, widen } from '../uploads'
import { Empty } from './empty'
import { Row } from './row'
import { SelectionBar } from './selectionbar'
import { Toolbar } from './toolbar'

/** The user's uploads, newest first. */
export function List() {
  const ids = listed.value
  const [none, waiting] = [ids.length === 0, loading.value]
  return (
    <section class="uploads" aria-label="Your uploads" onKeyDown={(e) => e.key === 'Escape' && selectAll(false)}>
      {(!none || narrowed.value || waiting) && <Toolbar />}
      {problem.value && (
        <p class="problem" role="alert">{problem.value} <button type="button" class="plain small" onClick={() => reload()}>Try again</button></p>
      )}
      {none && !waiting && !problem.value && (narrowed.value ? <Nothing /> : <Empty />)}
      {none && waiting && <p class="quiet waiting">Asking for your uploads…</p>}
      {!none && (
        <ul class="rows" aria-label="Uploads" aria-busy={waiting}>
          {ids.map((id) => <Row key={id} id={id} />)}
        </ul>
      )}
      {next.value !== null && !none && (
        <button type="button" class="plain more" disabled={waiting} onClick={() => loadMore()}>{waiting ? 'Loading…' : 'Load more'}</button>
      )}
      <SelectionBar />
    </section>
  )
}

const Nothing = () => (
  <div class="empty">
    <p>No upload is like that.</p>
    <button type="button" class="plain" onClick={() => widen()}>Show all</button>
  </div>
)
