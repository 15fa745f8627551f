// What people do with uploads: retry, cancel, delete.
import { signal } from '@preact/signals'
import { get, post, remove, type File, type Retried, type Upload } from './api'
import { limitsChanged } from './limits'
import { complain, say } from './notices'
import { linksOpen } from './session'
import { selectAll } from './selection'
import { takeBack } from './sender'
import { filter, take } from './uploads'
import { count, title } from './words'

/** A question to which the answer is yes or no. */
export interface Question {
  title: string
  text: string
  yes: string
  no: string
  answer(yes: boolean): void
}

export const question = signal<Question | null>(null)

const ask = (asked: Omit<Question, 'answer'>): Promise<boolean> =>
  new Promise((done) => {
    question.value = {
      ...asked,
      answer(yes) {
        question.value = null
        done(yes)
      },
    }
  })

export const retryable = (u: Upload) => u.links.retry !== null
export const cancelable = (u: Upload) => u.links.cancel !== null
export const deletable = (u: Upload) => u.status !== 'deleting' && u.status !== 'deleted'

/** Sends a failed upload on its way again, to another provider if one is named. */
export async function retry(u: Upload, provider?: string): Promise<void> {
  if (u.links.retry === null) return
  await attempt(async () => take(await post<Upload>(u.links.retry!, provider ? { provider } : undefined)))
}

export async function retryMany(uploads: Upload[]): Promise<void> {
  const ids = uploads.filter(retryable).map((u) => u.id)
  if (!ids.length) return
  await attempt(async () => {
    tell(await post<Retried>('/v1/uploads/retry', { ids }))
    selectAll(false)
  })
}

/** Retries all that have failed, of those that the list is narrowed to, once somebody has heard how many. */
export async function retryAll(): Promise<void> {
  const { provider, name } = filter.value
  const chosen = { ...(provider && { provider }), ...(name && { q: name }) }
  await attempt(async () => {
    const would = await everyBatch({ ...chosen, dry_run: true })
    const not = would.not_retried.map((r) => `${count(r.count, 'other')} cannot be retried: ${r.message}`).join(' ')
    const which = [provider && `for ${title(provider)}`, name && `whose names begin with “${name}”`].filter(Boolean).join(' ')
    if (would.retried.count === 0) return say(not || `Nothing ${which} has failed.`.replace('  ', ' '))
    const yes = await ask({
      title: `Retry ${count(would.retried.count, 'failed upload')}?`,
      text: [`They go on where they stopped${which && `, those ${which}`}. Nothing has to be sent here again.`, not].filter(Boolean).join(' '),
      yes: `Retry ${would.retried.count.toLocaleString('en')}`,
      no: 'Not now',
    })
    if (yes) tell(await everyBatch(chosen))
  })
}

// everyBatch sends the same body for each batch, and adds up what is answered.
async function everyBatch(body: object): Promise<Retried> {
  const sum: Retried = { retried: { count: 0, ids: [] }, not_retried: [], next: '/v1/uploads/retry' }
  while (sum.next !== null) {
    const { retried, not_retried, next } = await post<Retried>(sum.next, body)
    sum.retried.count += retried.count
    for (const reason of not_retried) {
      const same = sum.not_retried.find((r) => r.code === reason.code)
      if (same) same.count += reason.count
      else sum.not_retried.push(reason)
    }
    sum.next = next
  }
  return sum
}

function tell({ retried, not_retried }: Retried) {
  if (retried.count) say(`${count(retried.count, 'upload is', 'uploads are')} on the way again.`)
  for (const r of not_retried) say(`${count(r.count, 'upload')} not retried: ${r.message}`, true)
}

/** Ends uploads that are on their way; of several only after a question. */
export async function cancelMany(uploads: Upload[]): Promise<void> {
  const which = uploads.filter(cancelable)
  if (which.length > 1) {
    const yes = await ask({
      title: `Cancel ${count(which.length, 'upload')}?`,
      text: 'They end now. What has come of them is let go, here and at their providers.',
      yes: `Cancel ${which.length}`,
      no: 'Let them go on',
    })
    if (!yes) return
  }
  await each(which, (u) => {
    takeBack(u.id)
    return post<Upload>(u.links.cancel!)
  })
}

/** Deletes uploads, and what their providers have of them, after a question. */
export async function deleteMany(uploads: Upload[]): Promise<void> {
  const which = uploads.filter(deletable)
  const [one] = which
  if (!one) return
  const delivered = which.some((u) => u.status === 'completed')
  const yes = await ask({
    title: which.length === 1 ? `Delete “${one.file_name}”?` : `Delete ${count(which.length, 'upload')}?`,
    text: delivered
      ? `What was delivered is deleted at ${[...new Set(which.map((u) => title(u.provider)))].join(' and ')} too, and its addresses open no more. This cannot be undone.`
      : 'What there is of it is let go, here and at its provider. This cannot be undone.',
    yes: which.length === 1 ? 'Delete' : `Delete ${which.length}`,
    no: 'Keep',
  })
  if (!yes) return
  await each(which, (u) => {
    takeBack(u.id)
    return remove<Upload>(u.links.self)
  })
}

// each does the same to several uploads, a few at a time, and says once what went wrong.
async function each(uploads: Upload[], what: (u: Upload) => Promise<Upload>) {
  const left = [...uploads]
  const wrong = new Set<string>()
  const work = async () => {
    for (let u = left.shift(); u; u = left.shift()) {
      try {
        take(await what(u))
      } catch (error) {
        wrong.add((error as Error).message)
      }
    }
  }
  await Promise.all([work(), work(), work(), work()])
  wrong.forEach((text) => say(text, true))
  selectAll(false)
  limitsChanged()
}

/** Copies an address. */
export async function copy(text: string, what: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text)
    say(`${what} is copied.`)
  } catch {
    say(`The browser does not let this page copy. ${what}: ${text}`, true) // without https it has no clipboard
  }
}

/** Opens a delivered file where a plain link could not: the API says where it is by now. */
export async function open(u: Upload): Promise<void> {
  const tab = window.open('', '_blank')
  if (!tab) return say('The browser lets this page open no other.', true)
  tab.opener = null // the file shall not lead this page elsewhere
  const opened = await attempt(async () => {
    const { url } = await get<File>(`/v1/files/${u.id}`)
    tab.location.replace(url)
  })
  if (!opened) tab.close()
}

/** The address that opens a delivered file by itself; null where the API has to be asked with a token. */
export function opensAt(u: Upload): string | null {
  if (u.status !== 'completed' || !u.asset) return null
  return u.asset.url !== u.url || linksOpen() ? u.asset.url : null
}

// attempt tells whether it came to something, and people if not.
async function attempt(what: () => Promise<void>): Promise<boolean> {
  try {
    await what()
    return true
  } catch (error) {
    complain(error)
    return false
  }
}
