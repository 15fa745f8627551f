// Files on their way from this tab to Slipway: Uppy, over tus.
import { computed, signal } from '@preact/signals'
import Uppy from '@uppy/core'
import Tus, { type TusBody, type TusDetailedError } from '@uppy/tus'
import { Problem, problemIn } from './api'
import { limits, limitsChanged, refreshLimits, refusal } from './limits'
import { say } from './notices'
import { authorization, refused, signedIn, strangers } from './session'
import size from './size'
import { refresh } from './uploads'
import { begunFor, forget, idIn, storage } from './unfinished'

type Meta = { provider: string }

const chosenKey = 'slipway:provider'
const chosen = signal(localStorage.getItem(chosenKey))

/** Where files go that are chosen from now on. */
export const provider = computed(() => {
  const may = limits.value
  if (!may) return ''
  return chosen.value && chosen.value in may.providers ? chosen.value : may.default_provider
})

export function choose(name: string): void {
  chosen.value = name
  localStorage.setItem(chosenKey, name)
}

/** Files that were not taken, and why. */
export const turnedAway = signal<{ name: string; why: string }[]>([])

/** How the files that were chosen together stand. They are together until all of them have come in. */
export interface Batch {
  chosen: number
  received: number
  /** Given up, though they may be tried again. */
  failed: number
  why: string
  paused: number
  /** Shown by Uppy, those too that have just come in. */
  held: number
}

const nothing: Batch = { chosen: 0, received: 0, failed: 0, why: '', paused: 0, held: 0 }
export const sending = signal<Batch>(nothing)

/** Whether files are here that would be lost with this tab. */
export const pending = computed(() => sending.value.chosen - sending.value.received - sending.value.failed)

/** Why something waits that is tried again by itself. */
export const heldUp = signal<string | null>(null)

/** The uploads that this tab is sending. */
export const mine = signal<ReadonlySet<string>>(new Set())

// One file after the other does not fill a line; many at once share what little there is.
const together = 4

// An API that restarts, or a database, is back within minutes; until then nothing that has come in is lost.
const retryDelays = [500, 1000, 2000, 3000, 5000, 8000, ...Array<number>(60).fill(10_000)]

// Refusals that pass while others' files, or one's own, move on.
const passing = ['rate_limited', 'concurrent_uploads_exceeded', 'staged_quota_exceeded', 'too_many_requests']

export const uppy = new Uppy<Meta, TusBody>({
  autoProceed: true,
  meta: { provider: '' },
  infoTimeout: 8000,
  onBeforeFileAdded(file, files) {
    if (file.id in files) return false
    const earlier = begunFor(file.id)
    const to = earlier ?? provider.value
    const why = refusal({ name: file.name ?? '', size: file.size ?? 0, type: file.type ?? '' }, to)
    if (why) turnedAway.value = [...turnedAway.value, { name: file.name ?? '', why }]
    return why === null && { ...file, meta: { ...file.meta, provider: to } }
  },
})

const begunEarlier = new Map<string, string>() // the names of files, by upload

uppy.use(Tus, {
  endpoint: '/v1/tus/',
  allowedMetaFields: ['name', 'type', 'provider'],
  limit: together,
  retryDelays,
  removeFingerprintOnSuccess: true,
  urlStorage: {
    ...storage,
    async findUploadsByFingerprint(fingerprint) {
      const found = await storage.findUploadsByFingerprint(fingerprint)
      for (const { uploadUrl, metadata } of found) if (uploadUrl) begunEarlier.set(idIn(uploadUrl), metadata['name'] ?? 'The file')
      return found
    },
  },
  async onBeforeRequest(request) {
    const before = strangers.value
    await signedIn()
    if (strangers.value !== before) throw new Error('The file was chosen by somebody else.')
    for (const [name, value] of Object.entries(authorization())) request.setHeader(name, value)
  },
  onAfterResponse(request, answer) {
    if (request.getMethod() !== 'HEAD') return
    const status = answer.getStatus()
    // tus-js-client would begin anew with the first byte. These say nothing of the upload: it is asked for again.
    if (status === 401 || status === 429 || status >= 500) throw problemIn(status, answer.getBody())
    const id = idIn(request.getURL())
    const name = begunEarlier.get(id)
    if (!name || status === 423) return
    begunEarlier.delete(id)
    const [offset, length] = [Number(answer.getHeader('Upload-Offset')), Number(answer.getHeader('Upload-Length'))]
    if (status !== 200) say(`${name} begins anew: what was sent of it before is not kept any more.`)
    else if (offset > 0) say(`${name} goes on where it stopped, at ${size(offset)} of ${size(length)}.`)
  },
  onShouldRetry(error, _attempt, _options, usual) {
    const problem = problemOf(error)
    if (problem?.status === 401) {
      refused()
      return true // the next request waits until somebody is signed in
    }
    const again = error.originalResponse?.getStatus() === 429 ? passing.includes(problem!.code) : usual(error)
    if (again && problem?.status !== 423) heldUp.value = problem?.message ?? 'The connection was lost.'
    return again
  },
  onError(error) {
    error.message = ('originalRequest' in error && problemOf(error)?.message) || 'The connection was lost, and did not come back.'
  },
})

// problemOf is what a request was answered that came to nothing; null where it was not answered.
function problemOf(error: TusDetailedError): Problem | null {
  if (error.causingError instanceof Problem) return error.causingError // of a HEAD
  const answer = error.originalResponse
  return answer && problemIn(answer.getStatus(), answer.getBody())
}

uppy.on('files-added', (files) => {
  const before = sending.value.received < sending.value.chosen ? sending.value : nothing
  sending.value = { ...before, chosen: before.chosen + files.length }
  recount()
})
uppy.on('upload-progress', (file) => {
  if (file?.tus?.uploadUrl) own(idIn(file.tus.uploadUrl))
  heldUp.value = null
  recount()
})
uppy.on('upload-success', (file, answer) => {
  if (!file) return
  sending.value = { ...sending.value, received: sending.value.received + 1 }
  recount()
  limitsChanged()
  if (answer.uploadURL) void refresh(idIn(answer.uploadURL))
  setTimeout(() => uppy.getFile(file.id)?.progress.uploadComplete && uppy.removeFile(file.id), 1500)
})
uppy.on('upload-error', (file, error, answer) => {
  recount()
  if (!file || !answer || answer.status === 423 || answer.status >= 500) return
  // What was refused for good is not to be sent again as it is.
  turnedAway.value = [...turnedAway.value, { name: file.name, why: error.message }]
  queueMicrotask(() => uppy.removeFile(file.id))
})
uppy.on('upload', recount)
uppy.on('upload-retry', recount)
uppy.on('retry-all', recount)
uppy.on('upload-pause', recount)
uppy.on('pause-all', recount)
uppy.on('resume-all', recount)
uppy.on('file-removed', (file) => {
  if (!file.progress.uploadComplete) sending.value = { ...sending.value, chosen: sending.value.chosen - 1 }
  recount()
})
uppy.on('cancel-all', recount)

function recount() {
  const files = uppy.getFiles()
  const failed = files.filter((f) => f.error && !f.progress.uploadComplete)
  const paused = files.filter((f) => f.isPaused && !f.error && !f.progress.uploadComplete)
  sending.value = { ...sending.value, held: files.length, failed: failed.length, why: failed[0]?.error ?? '', paused: paused.length }
}

function own(id: string) {
  if (!mine.value.has(id)) mine.value = new Set([...mine.value, id])
}

/** Sends no more of the file of an upload, where it is this tab that sends it. */
export function takeBack(id: string): void {
  const file = uppy.getFiles().find((f) => !f.progress.uploadComplete && f.tus?.uploadUrl && idIn(f.tus.uploadUrl) === id)
  if (!file) return
  forget(id)
  drop(file.id)
}

function drop(file: string) {
  const { uploaders } = uppy.getPlugin<Tus<Meta, TusBody>>('Tus')!
  void uploaders[file]?.abort(false)
  uploaders[file] = null // else removing the file would end the upload by tus, too, which is being ended already, or is another's
  uppy.removeFile(file)
}

strangers.subscribe((changed) => {
  if (changed === 0) return
  const files = uppy.getFiles()
  if (pending.value > 0) say('Files that were still to be sent are not: somebody else has chosen them.')
  for (const file of files) drop(file.id)
  turnedAway.value = []
  sending.value = nothing
})

addEventListener('beforeunload', (event) => pending.value > 0 && event.preventDefault())

/** What may be sent is looked at anew when somebody is about to send something. */
export function aboutToSend(): void {
  refreshLimits().catch(() => {})
}
