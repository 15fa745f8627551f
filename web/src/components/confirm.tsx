import { useEffect, useRef } from 'preact/hooks'
import { question } from '../actions'

/** The question that is waiting for an answer. */
export function Confirm() {
  const dialog = useRef<HTMLDialogElement>(null)
  const asked = question.value
  useEffect(() => {
    if (asked) dialog.current?.showModal()
    else dialog.current?.close()
  }, [asked])
  return (
    <dialog
      ref={dialog} class="question" aria-labelledby="question-title" aria-describedby="question-text"
      onCancel={(e) => { e.preventDefault(); asked?.answer(false) }}
      onClose={() => asked?.answer(false)}
      onClick={(e) => e.target === dialog.current && asked?.answer(false)}
    >
      {asked && (
        <div>
          <h2 id="question-title">{asked.title}</h2>
          <p id="question-text">{asked.text}</p>
          <div class="choices">
            <button type="button" class="plain" autofocus onClick={() => asked.answer(false)}>{asked.no}</button>
            <button type="button" class={/^(Delete|Cancel)/.test(asked.yes) ? 'grave' : 'primary'} onClick={() => asked.answer(true)}>{asked.yes}</button>
          </div>
        </div>
      )}
    </dialog>
  )
}
