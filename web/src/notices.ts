// Short things to say that belong to nothing on the page.
import { signal } from '@preact/signals'

export interface Notice {
  id: number
  text: string
  bad: boolean
}

export const notices = signal<Notice[]>([])

let last = 0

/** Says something for some seconds; what went wrong stays until it was read. */
export function say(text: string, bad = false): void {
  const id = ++last
  notices.value = [...notices.value.filter((n) => n.text !== text), { id, text, bad }]
  if (!bad) setTimeout(() => dismiss(id), 6000)
}

export const complain = (error: unknown) => say(error instanceof Error ? error.message : String(error), true)

export function dismiss(id: number): void {
  notices.value = notices.value.filter((n) => n.id !== id)
}
