// Which uploads of the list are chosen, for what is done with many at once.
import { computed, signal } from '@preact/signals'
import type { Upload } from './api'
import { listed, uploadOf } from './uploads'

const picked = signal<ReadonlySet<string>>(new Set())
let anchor: string | null = null // where a range begins

/** The chosen uploads that are in the list. */
export const selected = computed(() => listed.value.filter((id) => picked.value.has(id)))

export const selectedUploads = computed(() => selected.value.map((id) => uploadOf(id).value).filter((u): u is Upload => u !== undefined))

export const isSelected = (id: string): boolean => picked.value.has(id)

/** Chooses an upload, or lets it go; with `range` all from the one before. */
export function select(id: string, on: boolean, range: boolean): void {
  const ids = listed.value
  const [a, b] = [anchor === null ? -1 : ids.indexOf(anchor), ids.indexOf(id)]
  const meant = range && a >= 0 ? ids.slice(Math.min(a, b), Math.max(a, b) + 1) : [id]
  const then = new Set(picked.value)
  for (const one of meant) on ? then.add(one) : then.delete(one)
  picked.value = then
  anchor = id
}

export function selectAll(on: boolean): void {
  picked.value = new Set(on ? listed.value : [])
  anchor = null
}
