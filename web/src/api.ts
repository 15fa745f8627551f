// The API of Slipway, as this page asks it (docs/ of the repository describes every answer).
import { authorization, refused } from './session'

export type Status =
  | 'receiving' | 'fetching' | 'reserved' | 'verifying' | 'queued' | 'pushing' | 'retrying'
  | 'completed' | 'failed' | 'canceled' | 'expired' | 'deleting' | 'deleted'

export type ResourceType = 'image' | 'video' | 'raw'

export interface UploadError {
  code: string
  message: string
  retryable: boolean
  fixable_by?: 'you' | 'provider' | 'operator'
}

export interface Upload {
  id: string
  status: Status
  provider: string
  resource_type: ResourceType
  file_name: string
  content_type: string
  size: number
  received_bytes: number
  pushed_bytes: number
  progress: number
  attempt: number
  max_attempts: number
  next_attempt_at: string | null
  error: UploadError | null
  asset: { url: string; size: number; width?: number; height?: number; duration?: number } | null
  url: string
  metadata: Record<string, string>
  tags: string[]
  version: number
  created_at: string
  staged_at: string | null
  completed_at: string | null
  expires_at: string | null
  staged_until: string | null
  links: { self: string; events: string | null; retry: string | null; cancel: string | null }
}

export interface Event {
  seq: number
  upload_id: string
  type: string
  status: Status
  attempt: number
  data: {
    progress?: number
    received_bytes?: number
    pushed_bytes?: number
    reason?: string
    code?: string
    message?: string
    parts?: number
    part_size?: number
  } | null
  at: string
}

export interface File {
  upload_id: string | null
  url: string
  thumbnail_url: string | null
}

interface Rules {
  types: string[] | null
  sizes: { type: string; max_bytes: number }[]
}

export interface Limits extends Rules {
  max_bytes: number
  default_provider: string
  providers: Record<string, Rules & { max_bytes: Record<ResourceType, number | null> }>
  file_name: { max_bytes: number }
  imports: boolean
  left: { staged_bytes: number | null; stored_bytes: number | null; uploads: number | null; receiving: number | null }
}

export interface Usage {
  staged: { files: number; bytes: number; limit: number | null }
  stored: { files: number; bytes: number; pending: { files: number; bytes: number }; limit: number | null }
  uploads: { today: number; limit: number | null; resets_at: string }
}

export interface Page {
  uploads: Upload[]
  next: string | null
}

/** What POST /v1/uploads/retry has done with one batch, or would do. */
export interface Retried {
  retried: { count: number; ids: string[] }
  not_retried: (UploadError & { count: number })[]
  next: string | null
}

/** An answer that is none of what was asked for. Its message is a sentence for people. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message)
  }
}

const unreachable = () => new Problem(0, 'unreachable', 'Slipway cannot be reached at the moment.')

/** Asks for path. Throws a Problem for every answer that is none of 2xx; one of status 0 when there is no answer. */
export async function call(path: string, init: RequestInit = {}): Promise<Response> {
  let answer: Response
  try {
    answer = await fetch(path, { ...init, headers: { ...authorization(), ...init.headers } })
  } catch (error) {
    if (init.signal?.aborted) throw error
    throw unreachable()
  }
  if (answer.ok) return answer
  if (answer.status === 401) refused()
  throw problemIn(answer.status, await answer.text().catch(() => ''))
}

/** Reads a problem out of an answer's text. */
export function problemIn(status: number, text: string): Problem {
  try {
    const { code, detail } = JSON.parse(text)
    if (typeof detail === 'string') return new Problem(status, String(code), detail)
  } catch {
    // it is somebody else's
  }
  return new Problem(status, 'unknown', `Slipway, or what stands before it, has answered ${status}.`)
}

export const get = <T>(path: string): Promise<T> => ask<T>(path, { headers: { Accept: 'application/json' } })

export const post = <T>(path: string, body?: unknown): Promise<T> =>
  ask<T>(path, { method: 'POST', ...(body !== undefined && { body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } }) })

export const remove = <T>(path: string): Promise<T> => ask<T>(path, { method: 'DELETE' })

async function ask<T>(path: string, init: RequestInit): Promise<T> {
  const answer = await call(path, init)
  return answer.json().catch(() => Promise.reject(unreachable())) // it was cut off
}
