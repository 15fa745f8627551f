// Files may be dropped anywhere on the page: beside the Dashboard one would take the page's place, and end what is being sent.
import { getDroppedFiles } from '@uppy/core/utils'

const brings = (event: DragEvent) => event.dataTransfer?.types.includes('Files') ?? false
const mark = (on: boolean) => document.documentElement.classList.toggle('dragging', on)

/** Hands add what is dropped on the page, until the answer is called. */
export function dropAnywhere(add: (files: File[]) => void): () => void {
  const listening = new AbortController()
  const { signal } = listening
  addEventListener('drop', () => mark(false), { capture: true, signal }) // the Dashboard keeps its own drops to itself
  addEventListener('dragleave', (event) => event.relatedTarget === null && mark(false), { signal })
  addEventListener('dragover', (event) => {
    if (!brings(event)) return
    event.preventDefault()
    mark(true)
  }, { signal })
  addEventListener('drop', async (event) => {
    if (!brings(event)) return
    event.preventDefault()
    add(await getDroppedFiles(event.dataTransfer!))
  }, { signal })
  return () => listening.abort()
}
