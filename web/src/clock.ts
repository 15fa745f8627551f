// What time it is, for what is said of times.
import { signal } from '@preact/signals'

/** Milliseconds since 1970, each second anew. */
export const now = signal(Date.now())
setInterval(() => (now.value = Date.now()), 1000)

const words = new Intl.RelativeTimeFormat('en', { numeric: 'auto', style: 'short' })
const steps: [Intl.RelativeTimeFormatUnit, number][] = [['day', 86400], ['hour', 3600], ['minute', 60]]

/** How long before t a moment was: "3 min. ago". */
export function ago(at: string, t: number): string {
  const seconds = (Date.parse(at) - t) / 1000
  for (const [unit, length] of steps) {
    if (Math.abs(seconds) >= length) return words.format(Math.trunc(seconds / length), unit)
  }
  return 'just now'
}

/** A number of milliseconds in words: "42 s", "3 min 20 s", "2 h 5 min". */
export function lasting(ms: number): string {
  const s = Math.round(ms / 1000)
  if (ms < 950) return `${Math.max(Math.round(ms), 0)} ms`
  if (s < 60) return `${s} s`
  const [whole, part, big, small] = s < 3600 ? [Math.floor(s / 60), s % 60, 'min', 's'] : [Math.floor(s / 3600), Math.floor((s % 3600) / 60), 'h', 'min']
  return part ? `${whole} ${big} ${part} ${small}` : `${whole} ${big}`
}

/** How long it is from t to a moment, in whole seconds. */
export const until = (at: string, t: number): string => lasting(Math.max(Math.ceil((Date.parse(at) - t) / 1000), 0) * 1000)

const moment = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' })
const time = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' })

export const exactly = (at: string): string => moment.format(new Date(at))
export const timeOfDay = (at: string): string => time.format(new Date(at))
