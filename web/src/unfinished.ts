// What this browser has begun to send and not finished: tus finds it here when the same file is chosen again.
import type { TusOptions } from '@uppy/tus'

type Storage = NonNullable<TusOptions<any, any>['urlStorage']>
type Previous = Awaited<ReturnType<Storage['findAllUploads']>>[number]

/** What the server does not have any more is noticed when it is asked for; this is for what nobody asks for. */
const kept = 7 * 24 * 60 * 60 * 1000

const prefix = 'slipway:unfinished:'

/** The id of the upload at a tus address. */
export const idIn = (url: string): string => url.split('/').pop()!

function all(): Previous[] {
  const found: Previous[] = []
  for (const key of Object.keys(localStorage)) {
    if (!key.startsWith(prefix)) continue
    const previous: Previous = { ...JSON.parse(localStorage.getItem(key)!), urlStorageKey: key }
    if (Date.now() - Date.parse(previous.creationTime) > kept) localStorage.removeItem(key)
    else found.push(previous)
  }
  return found
}

const of = (fingerprint: string) => all().filter((p) => p.urlStorageKey.startsWith(prefix + fingerprint))

/** The provider of the upload that was begun with this file of Uppy's; null where none was. */
export const begunFor = (fileID: string): string | null => of(`tus-${fileID}-`)[0]?.metadata['provider'] ?? null

const thatMade = (id: string) => all().filter((p) => p.uploadUrl !== null && idIn(p.uploadUrl) === id)

/** Whether the upload with this id goes on when its file is chosen here again. */
export const resumable = (id: string): boolean => thatMade(id).length > 0

/** Has the file of the upload with this id begin anew when it is chosen again. */
export const forget = (id: string): void => thatMade(id).forEach((p) => localStorage.removeItem(p.urlStorageKey))

/** Where tus-js-client keeps what it has begun. */
export const storage: Storage = {
  findAllUploads: async () => all(),
  findUploadsByFingerprint: async (fingerprint) => of(fingerprint),
  removeUpload: async (key) => localStorage.removeItem(key),
  addUpload: async (fingerprint, upload) => {
    const key = `${prefix}${fingerprint}:${idIn(upload.uploadUrl ?? '')}`
    localStorage.setItem(key, JSON.stringify(upload))
    return key
  },
}
