// What the page says of uploads.
import type { Upload, UploadError } from './api'
import { ago, lasting, until } from './clock'
import size from './size'

export const title = (provider: string): string => provider.charAt(0).toUpperCase() + provider.slice(1)

/** 1 file, 2 files. */
export const count = (n: number, one: string, many = `${one}s`): string => `${n.toLocaleString('en')} ${n === 1 ? one : many}`

export const percent = (part: number): string => `${Math.floor(part * 100)} %`

/** How far an upload has come on each of its two legs, 0 to 1. */
export function legs(u: Upload): { received: number; delivered: number } {
  const of = (bytes: number) => (u.size ? Math.min(bytes / u.size, 1) : 0)
  switch (u.status) {
    case 'completed':
      return { received: 1, delivered: 1 }
    case 'queued':
    case 'pushing':
    case 'retrying':
      return { received: 1, delivered: of(u.pushed_bytes) }
    default:
      return { received: of(u.received_bytes), delivered: of(u.pushed_bytes) }
  }
}

/** Where an upload is, in a few words; t is what time it is. */
export function says(u: Upload, t: number): string {
  const { received, delivered } = legs(u)
  const to = title(u.provider)
  switch (u.status) {
    case 'receiving':
      return `Coming in, ${percent(received)}`
    case 'fetching':
      if (u.next_attempt_at) return `Fetched again ${soon(u.next_attempt_at, t)}`
      return u.size ? `Being fetched, ${percent(received)}` : `Being fetched, ${size(u.received_bytes)} so far`
    case 'reserved':
      return `To be sent to ${to} from a browser`
    case 'verifying':
      return `${to} is being asked for it`
    case 'queued':
      return u.error ? `Here; waits for ${to}` : 'Here, and next in line'
    case 'pushing':
      return delivered < 1 ? `Here; ${percent(delivered)} at ${to}` : `${to} is finishing it`
    case 'retrying':
      return u.next_attempt_at ? `Here; attempt ${u.attempt + 1} ${soon(u.next_attempt_at, t)}` : 'Here; tried again soon'
    case 'completed':
      return u.staged_at && u.completed_at ? `Delivered in ${lasting(Math.max(Date.parse(u.completed_at) - Date.parse(u.staged_at), 0))}` : 'Delivered'
    case 'failed':
      return u.staged_at ? `Did not reach ${to}` : 'Did not get here'
    case 'canceled':
      return 'Canceled'
    case 'expired':
      return 'Expired; it was never finished'
    case 'deleting':
      return u.error ? 'Being deleted; not gone yet' : 'Being deleted'
    case 'deleted':
      return 'Deleted'
  }
}

/** "in 12 s", or "now". */
export const soon = (at: string, t: number): string => (Date.parse(at) > t ? `in ${until(at, t)}` : 'now')

/** How an upload is to be looked at. */
export function mood({ status, error }: Upload): 'moving' | 'waiting' | 'good' | 'bad' | 'over' {
  switch (status) {
    case 'completed':
      return 'good'
    case 'failed':
      return 'bad'
    case 'canceled':
    case 'expired':
    case 'deleting':
    case 'deleted':
      return 'over'
    default:
      return error ? 'waiting' : 'moving'
  }
}

/** Who can mend what went wrong, and what there is to do. */
export function advice(u: Upload, e: UploadError): string {
  const to = title(u.provider)
  const over = u.status === 'failed'
  switch (e.fixable_by) {
    case 'you':
      if (!over) return 'You can mend this.'
      if (e.code === 'source_refused') return 'You can mend this: have it fetched from an address that gives it to everybody.'
      return u.links.retry ? `You can mend this: choose another provider, or a file that ${to} takes.` : 'You can mend this: send a file that is accepted.'
    case 'operator':
      return over ? 'Whoever runs this Slipway can mend this. Retry it afterwards.' : 'Whoever runs this Slipway can mend this. It then goes on by itself.'
    case 'provider':
      return over ? `${to} could not take it. Retry it; it goes on where it stopped.` : `Only ${to} can mend this. It is tried again by itself.`
  }
  if (!over) return 'There is nothing to do; it is tried again by itself.'
  return u.links.retry ? 'Retry it; nothing has to be sent here again.' : 'Send it again.'
}

/** What it is, how large, and since when. */
export const facts = (u: Upload, t: number): string => [u.size ? size(u.size) : '', title(u.provider), ago(u.created_at, t)].filter(Boolean).join(' · ')
