// The user's uploads as far as they are shown: a page of the list, those that were opened, and what happens to them.
import { batch, computed, signal, type Signal } from '@preact/signals'
import { get, Problem, type Event, type Page, type Status, type Upload } from './api'

/** What the list can be narrowed to, in the words of the page. */
export const groups = {
  all: { says: 'All', statuses: [] },
  moving: { says: 'On their way', statuses: ['receiving', 'fetching', 'reserved', 'verifying', 'queued', 'pushing', 'retrying'] },
  completed: { says: 'Delivered', statuses: ['completed'] },
  failed: { says: 'Failed', statuses: ['failed'] },
  ended: { says: 'Ended', statuses: ['canceled', 'expired', 'deleting'] },
} satisfies Record<string, { says: string; statuses: Status[] }>

export type Group = keyof typeof groups

export interface Filter {
  group: Group
  provider: string
  /** What the file's name begins with. */
  name: string
}

const everything: Filter = { group: 'all', provider: '', name: '' }

export const filter = signal<Filter>(everything)
export const narrowed = computed(() => filter.value.group !== 'all' || filter.value.provider !== '' || filter.value.name !== '')

/** The ids of the list, newest first. */
export const listed = signal<string[]>([])

/** The path of the list's next page; null after the last. */
export const next = signal<string | null>(null)

export const loading = signal(true)
export const problem = signal<string | null>(null)

const pageSize = 50
const mostInPage = 100 // that the API gives

const known = new Map<string, Signal<Upload | undefined>>()

/** The upload with this id, as soon as it is known. */
export function uploadOf(id: string): Signal<Upload | undefined> {
  let one = known.get(id)
  if (!one) known.set(id, (one = signal(undefined)))
  return one
}

/** Forgets all that is known: whoever has signed in may be somebody else. */
export function forgetUploads(): void {
  asked++
  batch(() => {
    loading.value = true // until the list is asked for
    listed.value = []
    next.value = null
    for (const one of known.values()) one.value = undefined
  })
}

let asked = 0 // answers to earlier questions are not heeded

// What has come into the list while an answer was under way, which may not have it.
const arrived = new Set<string>()

/** Narrows the list. */
export function narrow(change: Partial<Filter>): Promise<void> {
  filter.value = { ...filter.value, ...change }
  arrived.clear()
  return reload(pageSize)
}

export const widen = () => narrow(everything)

/** Asks for the list again, as much of it as is shown. */
export function reload(enough = Math.max(listed.value.length, pageSize)): Promise<void> {
  arrived.clear()
  return read(listPath(Math.min(enough, mostInPage)), enough, () => [...arrived])
}

/** Adds the next page to the list. */
export async function loadMore(): Promise<void> {
  if (next.value !== null && !loading.value) await read(next.value, 1, () => listed.value)
}

// read follows the pages from path on until there are enough uploads, and lists them with those of beside.
async function read(path: string | null, enough: number, beside: () => string[]): Promise<void> {
  const mine = ++asked
  loading.value = true
  try {
    const found: Upload[] = []
    while (path !== null && found.length < enough) {
      const page: Page = await get<Page>(path)
      if (mine !== asked) return
      found.push(...page.uploads)
      path = page.next
    }
    batch(() => {
      found.forEach(learn)
      listed.value = inOrder([...beside(), ...found.map((u) => u.id)]).filter((id) => matches(uploadOf(id).value)) // some have changed meanwhile
      next.value = path
      problem.value = null
    })
  } catch (error) {
    if (mine === asked && !(error instanceof Problem && error.status === 401)) problem.value = (error as Error).message
  } finally {
    if (mine === asked) loading.value = false
  }
}

// inOrder is newest first: ids sort by creation.
const inOrder = (ids: string[]): string[] => [...new Set(ids)].sort().reverse()

function listPath(limit: number): string {
  const { group, provider, name } = filter.value
  const query = new URLSearchParams({ limit: String(limit) })
  if (group !== 'all') query.set('status', groups[group].statuses.join())
  if (provider) query.set('provider', provider)
  if (name) query.set('q', name)
  return `/v1/uploads?${query}`
}

function matches(u: Upload | undefined): boolean {
  if (!u) return false
  const { group, provider, name } = filter.value
  const statuses: Status[] = groups[group].statuses
  return u.status !== 'deleted' && (group === 'all' || statuses.includes(u.status)) && (!provider || u.provider === provider) && u.file_name.startsWith(name)
}

function learn(u: Upload): void {
  const one = uploadOf(u.id)
  if (!one.value || one.value.version <= u.version) one.value = u
}

/** Takes an upload as the API has just told it, into the list or out of it. */
export function take(u: Upload): void {
  batch(() => {
    learn(u)
    const ids = listed.value
    if (!matches(u)) {
      arrived.delete(u.id)
      if (ids.includes(u.id)) listed.value = ids.filter((id) => id !== u.id)
    } else if (!ids.includes(u.id) && (next.value === null || u.id > (ids.at(-1) ?? ''))) { // else it is on a page that nobody has asked for
      arrived.add(u.id)
      listed.value = inOrder([u.id, ...ids])
    }
  })
}

/** Asks for one upload. */
export async function refresh(id: string): Promise<void> {
  try {
    take(await get<Upload>(`/v1/uploads/${id}`))
  } catch (error) {
    if (!(error instanceof Problem)) throw error // it is asked for again at its next change
  }
}

/** What an event says is applied; what it does not say is asked for. */
export function happened(e: Event): void {
  const one = uploadOf(e.upload_id)
  const u = one.value
  if (u) {
    one.value = {
      ...u,
      status: e.status,
      attempt: e.attempt || u.attempt,
      progress: Math.max(u.progress, e.data?.progress ?? 0),
      received_bytes: Math.max(u.received_bytes, e.data?.received_bytes ?? 0),
      pushed_bytes: e.data?.pushed_bytes ?? u.pushed_bytes,
    }
  }
  if (!u || e.type !== 'progress') askFor(e.upload_id)
}

// Changes come in flocks: of few uploads each is asked for, of many the list, and that not all the time.
const few = 8
const [soon, later] = [80, 1000] // ms
const changed = new Set<string>()
let gathering = 0

function askFor(id: string, wait = soon) {
  changed.add(id)
  gathering ||= window.setTimeout(async () => {
    const ids = [...changed]
    changed.clear()
    const flock = ids.length > few
    const alone = flock ? ids.filter((one) => uploadOf(one).value && !listed.value.includes(one)).slice(0, few) : ids
    await Promise.all([...(flock ? [reload()] : []), ...alone.map(refresh)])
    gathering = 0
    const [more] = changed
    if (more) askFor(more, flock ? later : soon)
  }, wait)
}
