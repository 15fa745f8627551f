// What happens to the user's uploads, as it happens: one stream, which goes on where it was cut off.
import { signal } from '@preact/signals'
import { createParser } from 'eventsource-parser'
import { call, Problem, type Event } from './api'

/** Whether what the page shows is what is; since when it is not, and when the stream is asked for again. */
export const connection = signal<{ live: true } | { live: false; since: number; next: number | null }>({ live: false, since: Date.now(), next: null })

const lost = (next: number | null) => {
  const { value } = connection
  connection.value = { live: false, since: value.live ? Date.now() : value.since, next }
}

export interface Follower {
  /** What was before now is in the list. From now on everything comes as events, or, where there is no stream, the next fresh. */
  fresh(): void
  event(event: Event): void
}

/** The server says something at least every 12 s; a connection that is silent for longer is none. */
const silence = 30_000

const longestWait = 30_000

/** Tells follower what happens, until stop is aborted or nobody is signed in. */
export async function follow(follower: Follower, stop: AbortSignal): Promise<void> {
  let seen: string | undefined
  let comeBack = 1000
  let failures = 0

  const read = async (cut: AbortController) => {
    let watch = setTimeout(() => cut.abort(), silence)
    try {
      const answer = await call('/v1/events', {
        headers: { Accept: 'text/event-stream', ...(seen !== undefined && { 'Last-Event-ID': seen }) },
        cache: 'no-store',
        signal: cut.signal,
      })
      connection.value = { live: true }
      const parser = createParser({
        onRetry: (ms) => (comeBack = ms),
        onEvent: ({ id, event, data }) => {
          seen = id ?? seen
          if (event === 'start' || event === 'reset') follower.fresh()
          else if (!event) follower.event(JSON.parse(data))
        },
      })
      const texts = answer.body!.pipeThrough(new TextDecoderStream()).getReader() // Safari does not iterate over a stream
      for (let text = await texts.read(); !text.done; text = await texts.read()) {
        failures = 0
        clearTimeout(watch)
        watch = setTimeout(() => cut.abort(), silence)
        parser.feed(text.value)
      }
    } finally {
      clearTimeout(watch)
    }
  }

  while (!stop.aborted) {
    const cut = new AbortController()
    const end = () => cut.abort()
    stop.addEventListener('abort', end)
    try {
      await read(cut)
    } catch (error) {
      if (error instanceof Problem && error.status === 401) {
        if (!stop.aborted) lost(null)
        return
      }
      if (stop.aborted) return
      failures++
      if (!(error instanceof Problem) || (error.status > 0 && error.status !== 503)) follower.fresh() // somebody between holds streams back
    } finally {
      stop.removeEventListener('abort', end)
    }
    if (!stop.aborted) await pause(Math.min(comeBack * 2 ** Math.max(failures - 1, 0), longestWait), stop)
  }
}

// pause waits, less where the browser finds the network again.
function pause(ms: number, stop: AbortSignal): Promise<void> {
  lost(Date.now() + ms)
  return new Promise((done) => {
    const over = new AbortController()
    const end = () => {
      clearTimeout(timer)
      over.abort()
      done()
    }
    const timer = setTimeout(end, ms)
    addEventListener('online', end, { signal: over.signal })
    stop.addEventListener('abort', end, { signal: over.signal })
  })
}
