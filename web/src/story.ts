// The log of an upload as people read it.
import type { Event } from './api'
import size from './size'
import { count, title } from './words'

export interface Chapter {
  seq: number
  at: string
  /** When it ended, where that is another moment. */
  until?: string
  tone: 'plain' | 'good' | 'bad'
  says: string
  /** Why. */
  reason?: string
  code?: string
  /** Who can mend it. */
  who?: string
}

// Who can mend an error of an earlier attempt: the log has its code, and the upload itself who mends the present one.
const menders: Record<string, string> = {
  provider_unavailable: 'the provider', provider_throttled: 'the provider', session_lost: 'the provider', integrity_mismatch: 'the provider',
  provider_account: 'who runs this Slipway', provider_not_configured: 'who runs this Slipway', worker_lost: 'who runs this Slipway',
  staging_unreachable: 'who runs this Slipway', staging_corrupted: 'who runs this Slipway', scan_unavailable: 'who runs this Slipway',
  imports_off: 'who runs this Slipway', no_room: 'who runs this Slipway',
  provider_rejected: 'you', content_refused: 'you', type_not_allowed: 'you', too_large: 'you', too_large_for_provider: 'you', empty_file: 'you',
  source_refused: 'you', staged_quota_exceeded: 'you', stored_quota_exceeded: 'you', daily_quota_exceeded: 'you',
  source_unavailable: 'where it is fetched from', source_throttled: 'where it is fetched from',
}

/** Tells an upload's log. Progress that nothing interrupts is one chapter. */
export function story(events: Event[], provider: string): Chapter[] {
  const chapters: Chapter[] = []
  let moving: { chapter: Chapter; from: number; received: boolean } | null = null
  for (const e of events) {
    if (e.type !== 'progress') {
      moving = null
      const chapter = tell(e, title(provider))
      if (chapter) chapters.push(chapter)
      continue
    }
    const received = e.data?.received_bytes !== undefined
    const bytes = (received ? e.data?.received_bytes : e.data?.pushed_bytes) ?? 0
    if (!moving || moving.received !== received) {
      moving = { chapter: { seq: e.seq, at: e.at, tone: 'plain', says: '' }, from: bytes, received }
      chapters.push(moving.chapter)
    } else {
      moving.chapter.until = e.at
    }
    const where = received ? 'have come in' : `are at ${title(provider)}`
    moving.chapter.says = `${size(bytes)} ${where}`
  }
  return chapters
}

function tell(e: Event, to: string): Chapter | null {
  const { code, message, reason } = e.data ?? {}
  const why = { ...(message && { reason: message }), ...(code && { code, ...(menders[code] && { who: menders[code] }) }) }
  const chapter = (says: string, tone: Chapter['tone'] = 'plain'): Chapter => ({ seq: e.seq, at: e.at, tone, says, ...why })
  switch (e.type) {
    case 'status':
      return ofStatus(e, to, chapter)
    case 'attempt':
      return chapter(e.attempt ? `Attempt ${e.attempt} failed` : 'It has to wait', 'bad')
    case 'session': {
      const { parts = 1, part_size = 0 } = e.data ?? {}
      const pieces = parts > 1 ? `, in ${count(parts, 'part')} of ${size(part_size)}` : ''
      return { ...chapter(`Sending to ${to} from the first byte${pieces}`), ...(reason && { reason }) }
    }
    case 'takeover':
      return { ...chapter('A worker was lost; another goes on where it stopped'), ...(reason && { reason }) }
    case 'asset':
      return chapter(code ? `${to} has been asked again` : `${to} has told more about it`, code ? 'bad' : 'plain')
    default:
      return null // kinds that are not known yet
  }
}

function ofStatus(e: Event, to: string, chapter: (says: string, tone?: Chapter['tone']) => Chapter): Chapter {
  switch (e.status) {
    case 'receiving':
      return chapter('It began to come in')
    case 'fetching':
      return chapter('It began to be fetched')
    case 'reserved':
      return chapter(`A place at ${to} was reserved`)
    case 'verifying':
      return chapter(`${to} is asked for it`)
    case 'queued':
      if (e.data?.reason === 'retry') return chapter('Sent on its way again')
      if (e.data?.reason) return chapter(`Handed back: ${e.data.reason}`)
      return chapter('All of it is here, safe', 'good')
    case 'pushing':
      return chapter(`Attempt ${e.attempt} began`)
    case 'retrying':
      return chapter(`Attempt ${e.attempt} failed`, 'bad')
    case 'completed':
      return chapter(`Delivered to ${to}`, 'good')
    case 'failed':
      return chapter('Failed', 'bad')
    case 'canceled':
      return chapter('Canceled')
    case 'expired':
      return chapter('Expired', 'bad')
    case 'deleting':
      return chapter('Being deleted')
    case 'deleted':
      return chapter('Deleted')
  }
}
