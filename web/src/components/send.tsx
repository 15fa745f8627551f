import Dashboard from '@uppy/dashboard'
import { useEffect, useRef } from 'preact/hooks'
import { limits } from '../limits'
import { aboutToSend, choose, heldUp, pending, provider, sending, turnedAway, uppy } from '../sender'
import size from '../size'
import { count, title } from '../words'
import { dropAnywhere } from './anywhere'
import { Check } from './icons'
import { Import } from './import'
import { Usage } from './usage'

const strings = {
  dashboardTitle: 'Send files',
  dropPasteFiles: 'Drop files here or %{browseFiles}',
  browseFiles: 'choose them',
  addMore: 'Add',
  uploadingXFiles: { 0: 'Sending %{smart_count} file', 1: 'Sending %{smart_count} files' },
  uploading: 'Sending',
  uploadComplete: 'Received',
  complete: 'Received',
  uploadFailed: 'Not received',
  uploadPaused: 'Paused',
  pauseUpload: 'Pause',
  resumeUpload: 'Go on',
  resume: 'Go on',
  retryUpload: 'Try again',
  retry: 'Try again',
  filesUploadedOfTotal: { 0: '%{complete} of %{smart_count} file received', 1: '%{complete} of %{smart_count} files received' },
}

/** Where files are dropped, and how they come in. */
export function Send() {
  return (
    <section class="send" aria-labelledby="send-title">
      <h2 id="send-title" class="unseen">Send files</h2>
      <Providers />
      <div>
        <Drop />
        <Safety />
      </div>
      <TurnedAway />
      {limits.value?.imports && <Import />}
      <Usage />
    </section>
  )
}

function Providers() {
  const names = Object.keys(limits.value?.providers ?? {}).sort()
  if (names.length < 2) return null
  return (
    <fieldset class="providers">
      <legend>Deliver to</legend>
      <div class="tabs">
        {names.map((name) => (
          <label key={name}>
            <input type="radio" name="provider" value={name} checked={name === provider.value} onChange={() => choose(name)} />
            <span>{title(name)}</span>
          </label>
        ))}
      </div>
    </fieldset>
  )
}

function Drop() {
  const place = useRef<HTMLDivElement>(null)
  const most = limits.value?.max_bytes
  useEffect(() => {
    uppy.use(Dashboard, {
      id: 'Dashboard', target: place.current!, inline: true, width: '100%', height: '100%', theme: 'auto', singleFileFullScreen: false,
      proudlyDisplayPoweredByUppy: false, hideProgressAfterFinish: true, hideUploadButton: true, disableInformer: true, showRemoveButtonAfterComplete: false,
      fileManagerSelectionType: 'files', onDragOver: aboutToSend, locale: { strings },
    })
    const dashboard = uppy.getPlugin<Dashboard<any, any>>('Dashboard')!
    const stop = dropAnywhere(dashboard.addFiles)
    // Of a single file Uppy makes an item of no list.
    const mending = new MutationObserver(() => place.current?.querySelector('.uppy-Dashboard-files:not([role])')?.setAttribute('role', 'list'))
    mending.observe(place.current!, { childList: true, subtree: true })
    return () => {
      stop()
      mending.disconnect()
      uppy.removePlugin(dashboard)
    }
  }, [])
  useEffect(() => {
    uppy.getPlugin('Dashboard')?.setOptions({ note: most ? `up to ${size(most)} each` : null })
  }, [most])
  return <div class="drop" style={{ '--held': sending.value.held }} ref={place} />
}

/** Whether the tab may be closed. */
function Safety() {
  const { chosen, received, failed, why, paused } = sending.value
  if (chosen === 0) return <p class="safety" role="status" />
  if (pending.value > 0) {
    const left = pending.value === chosen ? count(chosen, 'file') : `${pending.value} of ${count(chosen, 'file')}`
    return (
      <p class="safety" role="status">
        <strong>Keep this tab open.</strong> {left} {pending.value === 1 ? 'is' : 'are'} still coming in{paused > 0 && `, ${paused} paused`}.
        {heldUp.value && <span class="held-up">{heldUp.value} It is tried again by itself.</span>}
      </p>
    )
  }
  if (failed > 0) {
    return <p class="safety bad" role="status">{received > 0 ? `${count(received, 'file is', 'files are')} here; ` : ''}{count(failed, 'file')} did not come in. {why}</p>
  }
  return (
    <p class="safety good" role="status">
      <Check />
      <span><strong>It is safe to close this tab.</strong> {received === 1 ? 'The file is here. It is' : `${received === 2 ? 'Both' : `All ${received}`} files are here. They are`} delivered whether this page is open or not.</span>
    </p>
  )
}

function TurnedAway() {
  const files = turnedAway.value
  if (files.length === 0) return null
  return (
    <div class="turned-away" role="alert">
      <p><strong>{count(files.length, 'file was', 'files were')} not taken.</strong></p>
      <ul tabIndex={0} aria-label="Files that were not taken">{files.slice(0, 20).map((f, i) => <li key={i}><bdi>{f.name}</bdi>: {f.why}</li>)}</ul>
      {files.length > 20 && <p>And {files.length - 20} others.</p>}
      <button type="button" class="plain small" onClick={() => (turnedAway.value = [])}>Dismiss</button>
    </div>
  )
}
