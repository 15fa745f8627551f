import type { Upload } from '../api'
import { legs, mood, percent, title } from '../words'

/** An upload's two legs in one bar: what has come in, and what its provider has of it. */
export function Bar({ upload }: { upload: Upload }) {
  const { received, delivered } = legs(upload)
  const to = title(upload.provider)
  const failed = mood(upload) === 'bad'
  return (
    <div
      class="bar" data-mood={mood(upload)} role="progressbar" aria-label={`How far ${upload.file_name} has come`}
      aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.floor(((received + delivered) / 2) * 100)}
      aria-valuetext={`Received here: ${percent(received)}. Delivered to ${to}: ${percent(delivered)}.`}
    >
      <span class="leg" data-stuck={(failed && received < 1) || undefined} style={{ '--part': received }} />
      <span class="leg" data-stuck={(failed && received === 1) || undefined} style={{ '--part': delivered }} />
    </div>
  )
}

/** What the two segments of a bar are. */
export function BarWords({ upload }: { upload: Upload }) {
  const { received, delivered } = legs(upload)
  return (
    <dl class="legs">
      <div><dt>Received here</dt><dd>{percent(received)}</dd></div>
      <div><dt>Delivered to {title(upload.provider)}</dt><dd>{percent(delivered)}</dd></div>
    </dl>
  )
}
