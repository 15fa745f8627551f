// Small pictures of what was delivered. The list of uploads does not have them: their addresses may be signed, and change.
import { signal, type Signal } from '@preact/signals'
import { get, Problem, type File, type Upload } from './api'

const found = new Map<string, Signal<string | null>>()
let first: Promise<void> | null = null

/** The address of an upload's picture, null as long as none is known. It is asked for when it is wanted first. */
export function thumbnailOf(u: Upload): Signal<string | null> | null {
  if (u.status !== 'completed' || !pictured(u)) return null
  let one = found.get(u.id)
  if (!one) {
    one = signal(null)
    found.set(u.id, one)
    void look(u.id, one)
  }
  return one
}

// pictured tells of what providers make pictures (docs/files.md).
function pictured(u: Upload): boolean {
  if (u.resource_type === 'image' && u.content_type !== 'application/pdf') return true
  return u.provider === 'cloudinary' && (u.content_type.startsWith('video/') || u.content_type === 'application/pdf')
}

async function look(id: string, one: Signal<string | null>) {
  try {
    await (first ??= prime().catch(() => {})) // each is asked for by itself then
    one.value ??= (await get<File>(`/v1/files/${id}`)).thumbnail_url
  } catch (error) {
    if (!(error instanceof Problem)) throw error // a picture is no more than a picture
  }
}

// prime asks for the newest pictures at once, rather than for each of the first rows.
async function prime() {
  const { files } = await get<{ files: File[] }>('/v1/files?limit=100')
  for (const { upload_id, thumbnail_url } of files) {
    if (!upload_id) continue
    const one = found.get(upload_id)
    if (one) one.value = thumbnail_url
    else found.set(upload_id, signal(thumbnail_url))
  }
}
