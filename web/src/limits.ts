// What may be sent, and what is used of it.
import { signal } from '@preact/signals'
import { get, type Limits, type ResourceType, type Usage } from './api'
import size from './size'
import { title } from './words'

export const limits = signal<Limits | null>(null)
export const usage = signal<Usage | null>(null)

/** Asks for both again. */
export async function refreshLimits(): Promise<void> {
  const [may, uses] = await Promise.all([get<Limits>('/v1/limits'), get<Usage>('/v1/usage')])
  limits.value = may
  usage.value = uses
}

let due = 0

/** Asks again soon, once for everything that happens until then. */
export function limitsChanged(): void {
  due ||= window.setTimeout(() => {
    due = 0
    refreshLimits().catch(() => {}) // what is shown is a moment older
  }, 1500)
}

export interface Candidate {
  name: string
  size: number
  /** As the browser has it from the name; "" where it does not know. */
  type: string
}

/** Why a file would be refused, as a sentence; null where nothing is against it. */
export function refusal(file: Candidate, provider: string): string | null {
  const may = limits.value
  if (file.size === 0) return 'It is empty.'
  if (!may) return null
  const there = may.providers[provider]
  const to = title(provider)
  if (new TextEncoder().encode(file.name).length > may.file_name.max_bytes) return `Its name is longer than ${may.file_name.max_bytes} bytes.`
  if (file.size > may.max_bytes) return tooLarge(file, may.max_bytes, 'a file may have here')
  const most = sizeFor(may.sizes, file.type)
  if (most !== null && file.size > most) return tooLarge(file, most, `a file of type ${file.type} may have here`)
  if (certain(file.type) && !admits(may.types, file.type)) return `Files of type ${file.type} are not accepted here. Accepted are: ${may.types?.join(', ')}.`
  if (there) {
    const here = sizeFor(there.sizes, file.type)
    if (here !== null && file.size > here) return tooLarge(file, here, `a file of type ${file.type} may have for ${to}`)
    if (certain(file.type) && !admits(there.types, file.type)) return `Files of type ${file.type} are not accepted for ${to}. Accepted are: ${there.types?.join(', ')}.`
    const plan = planFor(there.max_bytes, file.type)
    if (plan !== null && file.size > plan) return tooLarge(file, plan, `the account at ${to} takes of such a file`)
  }
  const { stored_bytes: room, uploads } = may.left
  if (room !== null && file.size > room) return `It has ${size(file.size)}, and ${size(room)} are left of what you may store.`
  if (uploads === 0) return 'You have no uploads left for today; there are new ones at midnight, UTC.'
  return null
}

// tooLarge says both in bytes where that is what tells them apart.
function tooLarge(file: Candidate, most: number, of: string): string {
  const inBytes = (n: number) => `${n.toLocaleString('en')} bytes`
  const as = size(file.size) === size(most) ? inBytes : size
  return `It has ${as(file.size)}; the most that ${of} is ${as(most)}.`
}

// The server decides by a file's bytes. Of these types a browser's guess is as good; for others the file's name says too little.
const certain = (type: string) => /^(image|video|audio)\//.test(type)

const fits = (pattern: string, type: string) => pattern === type || (pattern.endsWith('/*') && type.startsWith(pattern.slice(0, -1)))

// admits reads "image/*", "video/mp4" and, after them, exceptions: "!image/svg+xml"; exceptions alone leave everything else.
function admits(types: string[] | null, type: string): boolean {
  if (!types) return true
  const [except, only] = [types.filter((t) => t.startsWith('!')), types.filter((t) => !t.startsWith('!'))]
  if (except.some((t) => fits(t.slice(1), type))) return false
  return only.length === 0 || only.some((t) => fits(t, type))
}

// sizeFor is the most bytes of a type: a type goes before its kind.
function sizeFor(sizes: Limits['sizes'], type: string): number | null {
  if (!certain(type)) return null
  const found = sizes.find((s) => s.type === type) ?? sizes.find((s) => fits(s.type, type))
  return found?.max_bytes ?? null
}

// planFor is what the provider's account takes; where the type is not known, what it takes of any.
function planFor(most: Record<ResourceType, number | null>, type: string): number | null {
  if (type.startsWith('image/')) return most.image
  if (certain(type)) return most.video // sound too
  const all = Object.values(most)
  return all.includes(null) ? null : Math.max(...(all as number[]))
}
