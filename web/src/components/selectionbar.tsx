import { cancelable, cancelMany, copy, deletable, deleteMany, retryable, retryMany } from '../actions'
import { selectAll, selectedUploads } from '../selection'
import { mayChange } from '../session'
import { Cancel, Delete, Link, Retry } from './icons'

/** What can be done with the uploads that are selected. */
export function SelectionBar() {
  const uploads = selectedUploads.value
  if (uploads.length === 0) return null
  const [again, ends, goes] = [uploads.filter(retryable), uploads.filter(cancelable), uploads.filter(deletable)]
  const links = uploads.filter((u) => u.status === 'completed').map((u) => u.url)
  return (
    <div class="selection" role="toolbar" aria-label="Selected uploads">
      <span class="chosen">{uploads.length} selected</span>
      {links.length > 0 && <button type="button" class="plain" onClick={() => copy(links.join('\n'), links.length === 1 ? 'The link' : `A list of ${links.length} links`)}><Link /> Copy {links.length}</button>}
      {mayChange() && again.length > 0 && <button type="button" class="plain" onClick={() => retryMany(again)}><Retry /> Retry {again.length}</button>}
      {mayChange() && ends.length > 0 && <button type="button" class="plain" onClick={() => cancelMany(ends)}><Cancel /> Cancel {ends.length}</button>}
      {mayChange() && goes.length > 0 && <button type="button" class="plain" onClick={() => deleteMany(goes)}><Delete /> Delete {goes.length}</button>}
      <button type="button" class="bare text" onClick={() => selectAll(false)}>Clear</button>
    </div>
  )
}
