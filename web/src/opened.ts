// Which upload is looked at closely: it stands in the page's address, so that it can be linked to and left by going back.
import { effect, signal, untracked } from '@preact/signals'
import { readLog } from './history'
import { signIns } from './session'
import { refresh, uploadOf } from './uploads'

const prefix = '#upload/'

const inAddress = () => (location.hash.startsWith(prefix) ? location.hash.slice(prefix.length) : null)

export const opened = signal(inAddress())

addEventListener('hashchange', () => (opened.value = inAddress()))

export const addressOf = (id: string): string => prefix + id

/** Goes back to the list. */
export function shut(): void {
  history.pushState(null, '', location.pathname + location.search)
  opened.value = null
}

/** Whether the upload that is looked at is not there. */
export const missing = signal(false)

effect(() => {
  const id = opened.value
  signIns.value
  untracked(() => {
    missing.value = false
    readLog(id)
    if (id) void refresh(id).then(() => (missing.value = opened.value === id && !uploadOf(id).value))
  })
})
