// Files to send, the same bytes each time.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32, deflateSync } from 'node:zlib'

export const MiB = 1 << 20

// noise is as many bytes as are wanted that look like nothing.
function noise(length, seed) {
  const words = new Uint32Array(Math.ceil(length / 4))
  let x = seed
  for (let i = 0; i < words.length; i++) {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    words[i] = x
  }
  return Buffer.from(words.buffer, 0, length)
}

// film is a video, by its first bytes.
export function film(length, seed = 1) {
  const bytes = noise(length, seed)
  bytes.write('\0\0\0\x18ftypmp42\0\0\0\0mp42isom', 'latin1')
  return bytes
}

// paper is a document, by its first bytes.
export function paper(length, seed = 1) {
  const bytes = noise(length, seed)
  bytes.write('%PDF-1.7\n', 'latin1')
  return bytes
}

// picture is a PNG of a coast under a sun. What the day is like, three colors say, as [red, green, blue].
export function picture(width, height, { sky, sea, land }) {
  const mix = (a, b, part) => a.map((v, i) => Math.round(v + (b[i] - v) * part))
  const horizon = height * 0.62
  const sun = { x: width * 0.7, y: height * 0.34, radius: height * 0.11 }
  const light = [255, 246, 214]
  const rows = Buffer.alloc(height * (1 + 3 * width)) // each row begins with its filter, 0 for none
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const hill = horizon - height * 0.2 * Math.max(0, Math.sin((x / width) * 4 - 0.4)) * (1 - x / width)
      const distance = Math.hypot(x - sun.x, y - sun.y) / sun.radius
      let color = mix(sky, light, Math.min(1, y / horizon) * 0.55)
      if (distance < 1) color = light
      else if (distance < 3) color = mix(light, color, (distance - 1) / 2)
      if (y > hill) color = mix(land, sky, 0.15)
      if (y > horizon) color = mix(sea, light, Math.abs(x - sun.x) < width * 0.08 * (1 - (y - horizon) / height) && y % 7 < 3 ? 0.6 : 0.12)
      rows.set(color, y * (1 + 3 * width) + 1 + 3 * x)
    }
  }
  const chunk = (kind, content) => {
    const body = Buffer.concat([Buffer.from(kind, 'latin1'), content])
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)]
    length.writeUInt32BE(content.length)
    sum.writeUInt32BE(crc32(body))
    return Buffer.concat([length, body, sum])
  }
  const head = Buffer.alloc(13)
  head.writeUInt32BE(width, 0)
  head.writeUInt32BE(height, 4)
  head.set([8, 2], 8) // bits of each color, and which colors: red, green, blue
  return Buffer.concat([Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'), chunk('IHDR', head), chunk('IDAT', deflateSync(rows)), chunk('IEND', Buffer.alloc(0))])
}

// contents are those of the samples, by name.
export const contents = {
  'coast.png': picture(640, 480, { sky: [86, 152, 214], sea: [24, 92, 140], land: [52, 110, 74] }),
  'dusk.png': picture(320, 240, { sky: [232, 120, 84], sea: [72, 52, 96], land: [60, 40, 60] }),
  'ferry.mp4': film(6 * MiB, 2),
  'regatta.mp4': film(24 * MiB, 3),
  'charter.pdf': paper(1 * MiB, 4),
  'logbook.pdf': paper(64 * 1024, 5),
}

// save writes files, content by name, to a folder, and returns the path of each.
export async function save(folder, files) {
  await mkdir(folder, { recursive: true })
  const paths = {}
  for (const [name, content] of Object.entries(files)) {
    paths[name] = join(folder, name)
    await writeFile(paths[name], content)
  }
  return paths
}
