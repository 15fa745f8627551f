const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']

/** A number of bytes in words: three digits of it, and a unit. */
export default function size(bytes: number): string {
  let n = Math.max(bytes, 0)
  let unit = 0
  while (n >= 999.5 && unit < units.length - 1) {
    n /= 1024
    unit++
  }
  const digits = unit === 0 || n >= 99.95 ? 0 : n >= 9.995 ? 1 : 2
  return `${n.toFixed(digits).replace(/\.0+$/, '')} ${units[unit]}`
}

export { size as prettierBytes } // by which Uppy calls it
