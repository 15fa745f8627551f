import { usage } from '../limits'
import size from '../size'
import { count } from '../words'

/** What is used of what may be. */
export function Usage() {
  const used = usage.value
  if (!used) return null
  const { stored, staged, uploads } = used
  const of = (most: number | null, in_: (n: number) => string) => (most === null ? '' : ` of ${in_(most)}`)
  return (
    <p class="usage">
      <span>{count(stored.files, 'file')} delivered, {size(stored.bytes)}{of(stored.limit, size)}</span>
      {staged.files > 0 && <span>{size(staged.bytes)}{of(staged.limit, size)} kept here</span>}
      <span>{count(uploads.today, 'upload')}{of(uploads.limit, String)} today</span>
    </p>
  )
}
