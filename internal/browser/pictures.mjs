// The pictures of the page that the README shows: of uploads wherever an upload can be. They are written to
// SCREENSHOTS, if that names a folder; else it is only seen to that they could be.
import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { film, MiB, paper, picture } from './samples.mjs'
import * as visits from './visit.mjs'
import { accessible, ask, begin, eventually, reads, rowOf, SCREENSHOTS, send, simulate, someone, visit } from './visit.mjs'

const largest = 150_000 // bytes of a picture

before(visits.open)
after(visits.close)

async function shoot(what, name) {
  const image = await what.screenshot({ animations: 'disabled', caret: 'hide' })
  assert.ok(image.length < largest, `${name} has ${image.length} bytes`)
  if (!SCREENSHOTS) return
  await mkdir(SCREENSHOTS, { recursive: true })
  await writeFile(join(SCREENSHOTS, `${name}.png`), image)
}

async function inBothThemes(page, name, what = page) {
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme })
    await shoot(what, `${name}-${colorScheme}`)
  }
}

test('the page has its picture taken, with uploads on both their ways', async (t) => {
  const user = someone('anna')
  const page = await visit(t, { user, viewport: { width: 1200, height: 820 } })
  const delivered = (name) => reads(rowOf(page, name), /^Delivered in/)
  await send(user, 'Rules.pdf', paper(1.2 * MiB))
  await send(user, 'Pier.png', picture(800, 600, { sky: [232, 120, 84], sea: [72, 52, 96], land: [60, 40, 60] }), 'cloudinary')
  await send(user, 'Bay.png', picture(800, 600, { sky: [86, 152, 214], sea: [24, 92, 140], land: [52, 110, 74] }))
  for (const name of ['Rules.pdf', 'Pier.png', 'Bay.png']) await delivered(name)

  const small = await simulate(t, 'uploadcare', 'config', { max_file_size: 1000 })
  await send(user, 'Crew.pdf', paper(0.4 * MiB))
  await reads(rowOf(page, 'Crew.pdf'), 'File is too large')
  await small()
  const away = await simulate(t, 'cloudinary', 'faults', { method: 'POST', path: '/upload', action: 'answer', status: 503 })
  await send(user, 'Charter.pdf', paper(2.5 * MiB), 'cloudinary')
  await reads(rowOf(page, 'Charter.pdf'), /^Here; attempt 2/)
  const halfway = await simulate(t, 'uploadcare', 'faults', { method: 'PUT', path: 'partNumber=[678]', action: 'stall' })
  await send(user, 'Harbour.mp4', film(40 * MiB), 'uploadcare', 'video/mp4')
  await begin(user, 'Regatta.mp4', film(24 * MiB, 2), 10 * MiB)
  await eventually('five of eight parts', async () => (await ask(user, '/v1/uploads?q=Harbour')).uploads[0].pushed_bytes === 25 * MiB)
  await page.reload() // the log has progress once a second at most; the list has all of it
  await reads(rowOf(page, 'Harbour.mp4'), 'Here; 62 % at Uploadcare')
  await reads(rowOf(page, 'Regatta.mp4'), 'Coming in, 41 %')
  const pictures = page.getByRole('list', { name: 'Uploads' }).locator('img')
  await eventually('the small pictures', () => pictures.evaluateAll((all) => all.length === 2 && all.every((img) => img.complete && img.naturalWidth > 0)))
  await accessible(page, 'uploads on their way')
  await reads(rowOf(page, 'Charter.pdf'), /^Here; attempt \d in \d+ s$/)
  await inBothThemes(page, 'page')

  const phone = await visit(t, { user, viewport: { width: 390, height: 760 }, isMobile: true, hasTouch: true })
  await reads(rowOf(phone, 'Regatta.mp4'), 'Coming in, 41 %')
  await rowOf(phone, 'Bay.png').locator('img').waitFor()
  await phone.getByRole('region', { name: 'Your uploads' }).evaluate((list) => list.scrollIntoView())
  await reads(rowOf(phone, 'Charter.pdf'), /^Here; attempt \d in \d+ s$/)
  await inBothThemes(phone, 'phone')

  await halfway()
  await away()
  await delivered('Charter.pdf')
  await rowOf(page, 'Charter.pdf').getByRole('link', { name: 'Charter.pdf', exact: true }).click()
  await reads(page.getByRole('dialog'), 'Delivered to Cloudinary')
  await page.setViewportSize({ width: 1200, height: 1000 })
  await inBothThemes(page, 'upload', page.getByRole('dialog'))
})
