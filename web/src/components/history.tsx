import { exactly, lasting, timeOfDay } from '../clock'
import { log, readOn } from '../history'
import { story, type Chapter } from '../story'

/** What has happened to the upload that is looked at. */
export function History({ provider }: { provider: string }) {
  const read = log.value
  if (!read) return null
  return (
    <section class="history" aria-labelledby="history-title">
      <h3 id="history-title">History</h3>
      <ol>{story(read.events, provider).map((c) => <Passage key={c.seq} chapter={c} />)}</ol>
      {read.problem && <p class="problem" role="alert">{read.problem}</p>}
      {read.loading && <p class="quiet">Reading the log…</p>}
      {!read.loading && (read.more !== null || read.problem) && <button type="button" class="plain small" onClick={() => readOn()}>Read on</button>}
    </section>
  )
}

function Passage({ chapter: c }: { chapter: Chapter }) {
  const took = c.until ? Date.parse(c.until) - Date.parse(c.at) : 0
  return (
    <li data-tone={c.tone}>
      <time dateTime={c.at} title={exactly(c.at)}>{timeOfDay(c.until ?? c.at)}</time>
      <div>
        <p>{c.says}{took >= 1000 && <span class="quiet">, in {lasting(took)}</span>}</p>
        {c.reason && <p class="reason">{c.reason}</p>}
        {(c.who || c.code) && <p class="quiet">{c.who && `Can be mended by ${c.who}. `}{c.code && <code>{c.code}</code>}</p>}
      </div>
    </li>
  )
}
