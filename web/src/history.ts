// The history of one upload: its log, read from the beginning, and then what happens.
import { signal } from '@preact/signals'
import { get, type Event } from './api'

interface Log {
  events: Event[]
  next: string | null
}

/** The log of the upload that is looked at. */
export const log = signal<{ id: string; events: Event[]; more: string | null; loading: boolean; problem: string | null } | null>(null)

/** Pages that are read without being asked for. */
const pagesAtOnce = 5

/** Begins to read the log of an upload. */
export function readLog(id: string | null): void {
  log.value = id === null ? null : { id, events: [], more: `/v1/uploads/${id}/events?limit=100`, loading: false, problem: null }
  if (id) void readOn()
}

/** Reads the next pages. */
export async function readOn(): Promise<void> {
  const begun = log.value
  if (!begun || begun.loading) return
  log.value = { ...begun, loading: true, problem: null }
  try {
    for (let pages = 0; pages < pagesAtOnce && log.value?.id === begun.id && log.value.more !== null; pages++) {
      const page: Log = await get<Log>(log.value.more)
      if (log.value?.id === begun.id) log.value = { ...log.value, events: merged(log.value.events, page.events), more: page.next }
    }
  } catch (error) {
    if (log.value?.id === begun.id) log.value = { ...log.value, problem: (error as Error).message }
  }
  if (log.value?.id === begun.id) log.value = { ...log.value, loading: false }
}

/** Adds what has just happened. */
export function logged(e: Event): void {
  if (log.value?.id === e.upload_id) log.value = { ...log.value, events: merged(log.value.events, [e]) }
}

// merged is in the order of the log, each event once.
function merged(a: Event[], b: Event[]): Event[] {
  const bySeq = new Map([...a, ...b].map((e) => [e.seq, e]))
  return [...bySeq.values()].sort((x, y) => x.seq - y.seq)
}
