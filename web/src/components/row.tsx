import { cancelable, cancelMany, copy, deletable, deleteMany, open, opensAt, retry, retryable } from '../actions'
import type { Upload } from '../api'
import { now } from '../clock'
import { addressOf } from '../opened'
import { isSelected, select } from '../selection'
import { mine } from '../sender'
import { mayChange } from '../session'
import { thumbnailOf } from '../thumbnails'
import { resumable } from '../unfinished'
import { uploadOf } from '../uploads'
import { facts, mood, says } from '../words'
import { Bar } from './bar'
import { Cancel, Delete, Kind, Link, Open, Retry } from './icons'

/** One upload in the list. */
export function Row({ id }: { id: string }) {
  const upload = uploadOf(id).value
  if (!upload) return null
  const stopped = upload.status === 'receiving' && !mine.value.has(id)
  return (
    <li class="row" data-mood={mood(upload)} data-selected={isSelected(id) || undefined}>
      <label class="tick">
        <input type="checkbox" aria-label={`Select ${upload.file_name}`} checked={isSelected(id)} onClick={(e) => select(id, e.currentTarget.checked, e.shiftKey)} />
      </label>
      <Picture upload={upload} />
      <div class="what">
        <a class="name" href={addressOf(id)} title={upload.file_name}><bdi>{upload.file_name}</bdi></a>
        <Facts upload={upload} />
      </div>
      <div class="where">
        <Bar upload={upload} />
        <Says upload={upload} />
        {upload.error && upload.status !== 'completed' && <p class="why">{upload.error.message}</p>}
        {stopped && resumable(id) && <p class="why">If it has stopped, choose the same file again: it goes on from here.</p>}
      </div>
      <Actions upload={upload} />
    </li>
  )
}

const Facts = ({ upload }: { upload: Upload }) => <p class="facts">{facts(upload, now.value)}</p>

export const Says = ({ upload }: { upload: Upload }) => <p class="says">{says(upload, now.value)}</p>

export function Picture({ upload }: { upload: Upload }) {
  const address = thumbnailOf(upload)
  return (
    <span class="picture">
      {address?.value
        ? <img src={address.value} alt="" loading="lazy" decoding="async" onError={() => (address.value = null)} />
        : <Kind type={upload.content_type} />}
    </span>
  )
}

function Actions({ upload: u }: { upload: Upload }) {
  const at = opensAt(u)
  const done = u.status === 'completed'
  return (
    <div class="actions">
      {done && <Button says={`Copy the link to ${u.file_name}`} onClick={() => copy(u.url, 'The link')}><Link /></Button>}
      {done && (at
        ? <a class="bare" href={at} target="_blank" rel="noreferrer" aria-label={`Open ${u.file_name}`} title="Open"><Open /></a>
        : <Button says={`Open ${u.file_name}`} onClick={() => open(u)}><Open /></Button>)}
      {mayChange() && retryable(u) && <button type="button" class="plain small" aria-label={`Retry ${u.file_name}`} onClick={() => retry(u)}><Retry /> Retry</button>}
      {mayChange() && cancelable(u) && <Button says={`Cancel ${u.file_name}`} onClick={() => cancelMany([u])}><Cancel /></Button>}
      {mayChange() && !cancelable(u) && deletable(u) && <Button says={`Delete ${u.file_name}`} onClick={() => deleteMany([u])}><Delete /></Button>}
    </div>
  )
}

function Button({ says: text, onClick, children }: { says: string; onClick: () => void; children: preact.ComponentChildren }) {
  return <button type="button" class="bare" aria-label={text} title={text.split(' ', 1)[0]} onClick={onClick}>{children}</button>
}
