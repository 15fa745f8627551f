import { useEffect, useRef } from 'preact/hooks'
import { cancelable, cancelMany, copy, deletable, deleteMany, open, opensAt, retry, retryable } from '../actions'
import type { Upload } from '../api'
import { exactly, now } from '../clock'
import { limits } from '../limits'
import { missing, opened, shut } from '../opened'
import { mayChange } from '../session'
import size from '../size'
import { uploadOf } from '../uploads'
import { advice, mood, soon, title } from '../words'
import { Bar, BarWords } from './bar'
import { History } from './history'
import { Cancel, Delete, Link, Open, Retry } from './icons'
import { Picture, Says } from './row'

/** One upload, closely: where it is, what can be done, what has happened to it. */
export function Panel() {
  const dialog = useRef<HTMLDialogElement>(null)
  const id = opened.value
  const upload = id === null ? undefined : uploadOf(id).value
  useEffect(() => {
    if (id !== null && !dialog.current?.open) dialog.current?.showModal()
    if (id === null) dialog.current?.close()
  }, [id])
  return (
    <dialog
      ref={dialog} class="panel" aria-labelledby="panel-title"
      onCancel={(e) => { e.preventDefault(); shut() }}
      onClose={() => opened.value !== null && shut()}
      onClick={(e) => e.target === dialog.current && shut()}
    >
      <div>
        <header>
          <h2 id="panel-title"><bdi>{upload?.file_name ?? 'Upload'}</bdi></h2>
          <button type="button" class="bare" aria-label="Close" onClick={() => shut()}><Cancel /></button>
        </header>
        {upload ? <Closely upload={upload} /> : <p class="quiet">{missing.value ? 'There is no such upload, or it is somebody else’s.' : 'Asking for it…'}</p>}
      </div>
    </dialog>
  )
}

function Closely({ upload: u }: { upload: Upload }) {
  return (
    <>
      <div class="state" data-mood={mood(u)}>
        <Picture upload={u} />
        <Says upload={u} />
        <p class="unseen" role="status">{u.status}</p>{/* what is seen changes each second */}
        <Bar upload={u} />
        <BarWords upload={u} />
      </div>
      {u.error && <Trouble upload={u} />}
      <Doing upload={u} />
      <Facts upload={u} />
      <History provider={u.provider} />
    </>
  )
}

function Trouble({ upload: u }: { upload: Upload }) {
  const e = u.error!
  return (
    <div class="trouble" data-mood={mood(u)}>
      <p>{e.message}</p>
      <p class="quiet">{advice(u, e)}{u.next_attempt_at && u.status !== 'failed' && ` It is tried again ${soon(u.next_attempt_at, now.value)}.`}</p>
      <p class="quiet"><code>{e.code}</code>{u.staged_until && ` · kept for a retry until ${exactly(u.staged_until)}`}</p>
    </div>
  )
}

function Doing({ upload: u }: { upload: Upload }) {
  const done = u.status === 'completed' && u.asset
  const at = opensAt(u)
  const others = Object.keys(limits.value?.providers ?? {}).filter((p) => p !== u.provider)
  return (
    <div class="doing">
      {done && (at
        ? <a class="primary" href={at} target="_blank" rel="noreferrer"><Open /> Open</a>
        : <button type="button" class="primary" onClick={() => open(u)}><Open /> Open</button>)}
      {done && <button type="button" class="plain" onClick={() => copy(u.url, 'The link')}><Link /> Copy the link</button>}
      {done && u.asset!.url !== u.url && <button type="button" class="plain" onClick={() => copy(u.asset!.url, `The address at ${title(u.provider)}`)}><Link /> Copy {title(u.provider)}’s address</button>}
      {mayChange() && retryable(u) && <button type="button" class="primary" onClick={() => retry(u)}><Retry /> Retry</button>}
      {mayChange() && retryable(u) && others.map((p) => <button key={p} type="button" class="plain" onClick={() => retry(u, p)}>Retry with {title(p)}</button>)}
      {mayChange() && cancelable(u) && <button type="button" class="plain" onClick={() => cancelMany([u])}><Cancel /> Cancel</button>}
      {mayChange() && deletable(u) && <button type="button" class="plain" onClick={() => deleteMany([u])}><Delete /> Delete</button>}
    </div>
  )
}

function Facts({ upload: u }: { upload: Upload }) {
  const attempts = u.attempt > 0 ? `${u.attempt} of at most ${u.max_attempts}` : 'none yet'
  const { width, height, duration } = u.asset ?? {}
  const facts: [string, preact.ComponentChildren][] = [
    ['Size', u.size ? `${size(u.size)} (${u.size.toLocaleString('en')} bytes)` : 'not known'],
    ['Type', `${u.content_type || 'not known'}${width ? `, ${width} × ${height}` : ''}${duration ? `, ${Math.round(duration)} s` : ''}`],
    ['Attempts', attempts],
    ['Created', exactly(u.created_at)],
    ['Received', u.staged_at && exactly(u.staged_at)],
    ['Delivered', u.completed_at && exactly(u.completed_at)],
    ['Tags', u.tags.join(', ')],
    ...Object.entries(u.metadata),
    ['Id', <a href={`/uploads/${u.id}`}><code>{u.id}</code></a>],
  ]
  return (
    <dl class="table">
      {facts.filter(([, value]) => value).map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}
    </dl>
  )
}
