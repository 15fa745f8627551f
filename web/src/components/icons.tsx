// The few pictures of the page, drawn in the colour of the text beside them.
const drawn = (path: string) => () => (
  <svg class="icon" viewBox="0 0 20 20" width="18" height="18" aria-hidden="true">
    <path d={path} />
  </svg>
)

export const Retry = drawn('M16 10a6 6 0 1 1-1.8-4.3M16.2 3.2v3.4h-3.4')
export const Cancel = drawn('M5.5 5.5l9 9M14.5 5.5l-9 9')
export const Delete = drawn('M4 6h12M8 6V4.2h4V6M5.5 6l.7 9.8h7.6l.7-9.8M8.5 9v4M11.5 9v4')
export const Link = drawn('M8.5 11.5l3-3M9 6.5l1.7-1.7a3.2 3.2 0 0 1 4.5 4.5L13.5 11M11 13.5l-1.7 1.7a3.2 3.2 0 0 1-4.5-4.5L6.5 9')
export const Open = drawn('M8 5H5v10h10v-3M11 4.5h4.5V9M15.3 4.7L9.5 10.5')
export const Search = drawn('M9 14A5 5 0 1 0 9 4a5 5 0 0 0 0 10zM12.8 12.8L16.5 16.5')
export const Check = drawn('M4.5 10.5l3.5 3.5 7.5-8')

const Text = drawn('M5.5 3.5h6l3 3v10h-9zM8 9h4M8 11.5h4')
const kinds: Record<string, typeof Text> = {
  image: drawn('M4 4.5h12v11H4zM4 13l3.5-3.5 3 3 2-2L16 14M12.5 8h.01'),
  video: drawn('M3.5 5.5h9v9h-9zM12.5 9l4-2.2v6.4l-4-2.2'),
  audio: drawn('M7.5 14.5V5l8-1.5V13M7.5 14.5a2 1.6 0 1 1-4 0 2 1.6 0 0 1 4 0zM15.5 13a2 1.6 0 1 1-4 0 2 1.6 0 0 1 4 0z'),
}

/** What kind of file it is. */
export function Kind({ type }: { type: string }) {
  const Icon = kinds[type.split('/')[0]!] ?? Text
  return <Icon />
}
