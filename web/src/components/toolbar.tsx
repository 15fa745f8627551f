import { retryAll } from '../actions'
import { limits } from '../limits'
import { selectAll, selected } from '../selection'
import { mayChange } from '../session'
import { filter, groups, listed, narrow, type Group } from '../uploads'
import { title } from '../words'
import { Retry, Search } from './icons'

let typing = 0

/** What the list is narrowed to, and what is done with all of it. */
export function Toolbar() {
  const { group, name } = filter.value
  return (
    <div class="toolbar">
      <div class="tabs" role="group" aria-label="Which uploads">
        {(Object.keys(groups) as Group[]).map((g) => (
          <button key={g} type="button" aria-pressed={g === group} onClick={() => narrow({ group: g })}>{groups[g].says}</button>
        ))}
      </div>
      <div class="narrowing">
        <AllTick />
        <label class="search">
          <Search />
          <input
            type="search" aria-label="Names that begin with" placeholder="Name begins with…" value={name}
            onInput={(e) => {
              const begins = e.currentTarget.value
              clearTimeout(typing)
              typing = window.setTimeout(() => narrow({ name: begins }), 250)
            }}
          />
        </label>
        <Providers />
        {mayChange() && (group === 'all' || group === 'failed') && (
          <button type="button" class="plain" onClick={() => retryAll()}><Retry /> Retry all failed…</button>
        )}
      </div>
    </div>
  )
}

// Providers is drawn by itself: limits change often, and what is being typed would be lost each time.
function Providers() {
  const names = Object.keys(limits.value?.providers ?? {})
  if (names.length < 2) return null
  return (
    <select aria-label="Provider" value={filter.value.provider} onChange={(e) => narrow({ provider: e.currentTarget.value })}>
      <option value="">All providers</option>
      {names.map((p) => <option key={p} value={p}>{title(p)}</option>)}
    </select>
  )
}

function AllTick() {
  const [chosen, all] = [selected.value.length, listed.value.length]
  return (
    <label class="tick">
      <input
        type="checkbox" aria-label="Select all that are shown" disabled={all === 0} checked={all > 0 && chosen === all}
        ref={(box) => { if (box) box.indeterminate = chosen > 0 && chosen < all }}
        onChange={(e) => selectAll(e.currentTarget.checked)}
      />
    </label>
  )
}
