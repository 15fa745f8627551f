// Uses the page at / as people do, to send files, and to see what becomes of them.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { contents, MiB, save } from './samples.mjs'
import * as visits from './visit.mjs'
import {
  accessible, ask, choose, DEV_API, drop, eventually, FOLDER, files, kill, lead, line, panel, place, reads, received, rowOf, send, sha256, simulate,
  someone, start, visit,
} from './visit.mjs'

before(visits.open)
after(visits.close)

const bar = (row) => row.getByRole('progressbar')

// opened shows an upload closely.
async function opened(page, name) {
  await rowOf(page, name).getByRole('link', { name, exact: true }).click()
  await panel(page).getByRole('heading', { name, exact: true }).waitFor()
  return panel(page)
}

describe('a file', () => {
  test('that is dropped is shown on both its ways, and at its provider', async (t) => {
    const page = await visit(t, { at: DEV_API })
    await reads(page, 'user_123')
    await reads(page, 'Nothing here yet')
    const undo = await simulate(t, 'uploadcare', 'faults', { method: 'PUT', path: 'partNumber=5', action: 'stall' }) // the last
    await line(page, 6 * MiB)
    await drop(page, place(page), files['regatta.mp4'], files['coast.png'])
    const film = rowOf(page, 'regatta.mp4')
    await reads(place(page), 'Keep this tab open.')
    await reads(film, /^Coming in, \d+ %$/)
    await received(page)
    await reads(film, /^Here; [1-9]\d? % at Uploadcare$/)
    assert.match(await bar(film).getAttribute('aria-valuetext'), /^Received here: 100 %. Delivered to Uploadcare: [1-9]\d? %.$/)
    await undo()
    await reads(film, /^Delivered in \d/)
    const coast = rowOf(page, 'coast.png')
    await reads(coast, /^Delivered in \d/)
    await eventually('the small picture', () => coast.locator('img').evaluate((img) => img.complete && img.naturalWidth > 0).catch(() => false))

    await coast.getByRole('button', { name: 'Copy the link to coast.png' }).click()
    await reads(page, 'The link is copied.')
    const copied = await page.evaluate(() => navigator.clipboard.readText())
    assert.match(copied, /\/v1\/files\/[0-9a-f-]+\/content$/)
    const fetched = await fetch(copied)
    assert.equal(sha256(Buffer.from(await fetched.arrayBuffer())), sha256(contents['coast.png']))
  })

  test('that is larger than may be is turned away before it is sent', async (t) => {
    const page = await visit(t, { user: someone() })
    const seen = lead(page)
    await reads(page, 'Nothing here yet')
    const large = await save(join(FOLDER, 'large'), { 'epic.mp4': Buffer.alloc(65 * MiB) })
    await choose(page, large['epic.mp4'])
    await reads(page.getByRole('alert'), 'epic.mp4')
    await page.getByRole('button', { name: 'Dismiss' }).click()
    assert.equal(seen.made, 0)
  })

  test('can be paused, and goes on where it was', async (t) => {
    const page = await visit(t, { user: someone() })
    const seen = lead(page)
    await line(page, 0.75 * MiB)
    await choose(page, files['ferry.mp4'])
    const row = rowOf(page, 'ferry.mp4')
    await reads(row, /^Coming in, [2-9]\d %$/)
    await page.getByRole('button', { name: 'Pause' }).first().click()
    await reads(place(page), '1 paused')
    const requests = seen.from.length
    await accessible(page, 'paused')
    assert.equal(seen.from.length, requests, 'it went on although it was paused')
    await line(page, -1)
    await page.getByRole('button', { name: 'Go on' }).first().click()
    await received(page)
    assert.equal(seen.made, 1)
    assert.ok(seen.from.at(-1) >= MiB, `it was sent from ${seen.from}`)
    await reads(row, /^Delivered in/)
  })

  test('goes on in a page that was loaded anew, and nothing is sent again that was received', async (t) => {
    const user = someone()
    const page = await visit(t, { user })
    const seen = lead(page)
    await line(page, MiB)
    await choose(page, files['ferry.mp4'])
    await reads(rowOf(page, 'ferry.mp4'), /^Coming in, [3-9]\d %$/)
    await page.reload()
    const row = rowOf(page, 'ferry.mp4')
    await reads(row, /choose the same file again/i)
    await line(page, -1)
    let had
    await eventually('the last byte of the page that is gone', async () => {
      const before = had
      ;({ uploads: [{ received_bytes: had }] } = await ask(user, '/v1/uploads'))
      return had > 0 && had === before
    })
    await choose(page, files['ferry.mp4'])
    await reads(page, 'ferry.mp4 goes on where it stopped')
    await received(page)
    assert.equal(seen.made, 1)
    assert.equal(seen.from.at(-1), had)
    await reads(row, /^Delivered in/)
    const { uploads } = await ask(user, '/v1/uploads')
    assert.equal(uploads.length, 1)
  })

  test('is safe while no worker is there, and is delivered when there is one again', async (t) => {
    await kill('worker')
    t.after(() => start('worker'))
    const page = await visit(t, { user: someone() })
    await choose(page, files['charter.pdf'])
    const row = rowOf(page, 'charter.pdf')
    await received(page)
    await reads(row, 'Here, and next in line')
    await accessible(page, 'waiting for a worker')
    await start('worker')
    await reads(row, /^Delivered in/)
  })

  test('that failed says why, and is delivered when it is retried', async (t) => {
    const page = await visit(t, { user: someone() })
    const undo = await simulate(t, 'uploadcare', 'config', { max_file_size: 1000 })
    await choose(page, files['charter.pdf'])
    const row = rowOf(page, 'charter.pdf')
    await reads(row, 'Did not reach Uploadcare')
    const closely = await opened(page, 'charter.pdf')
    const history = closely.getByRole('region', { name: 'History' })
    await reads(history, 'Failed')
    await reads(history, 'File is too large')
    await accessible(page, 'a failed upload, closely')
    await undo()
    await closely.getByRole('button', { name: 'Retry', exact: true }).click()
    await reads(history, 'Sent on its way again')
    await reads(history, 'Delivered to Uploadcare')
    await accessible(page, 'a delivered upload, closely')
    await page.keyboard.press('Escape')
    await panel(page).waitFor({ state: 'hidden' })
    await reads(row, /^Delivered in/)
  })

  test('whose provider is away is tried again by itself, and each attempt is told', async (t) => {
    const page = await visit(t, { user: someone() })
    await simulate(t, 'cloudinary', 'faults', { method: 'POST', path: '/(raw|image|video)/upload', action: 'answer', status: 503, times: 3 })
    await page.getByRole('radio', { name: 'Cloudinary' }).check({ force: true })
    await choose(page, files['logbook.pdf'])
    await reads(rowOf(page, 'logbook.pdf'), /^Here; attempt 2 /)
    const closely = await opened(page, 'logbook.pdf')
    await reads(closely, 'Attempt 1 failed')
    await reads(closely, 'Cloudinary answered 503')
    await accessible(page, 'an upload that is tried again, closely')
    await reads(closely, 'Delivered to Cloudinary')
  })
})

describe('many files', () => {
  // some are uploads of a user's own, sent while no worker is there, so that they stay as they are.
  const some = async (user, names) => {
    for (const name of names) await send(user, name, `This is ${name}.`)
  }

  test('are canceled together, and deleted together', async (t) => {
    const user = someone()
    await kill('worker')
    t.after(() => start('worker'))
    await some(user, ['one.txt', 'two.txt', 'three.txt', 'four.txt'])
    const page = await visit(t, { user })
    for (const name of ['one.txt', 'two.txt']) await page.getByRole('checkbox', { name: `Select ${name}` }).check()
    const bar = page.getByRole('toolbar', { name: 'Selected uploads' })
    await accessible(page, 'uploads that are selected')
    await bar.getByRole('button', { name: 'Cancel 2' }).click()
    await panel(page).getByRole('heading', { name: 'Cancel 2 uploads?' }).waitFor()
    await accessible(page, 'a question')
    await panel(page).getByRole('button', { name: 'Cancel 2' }).click()
    for (const name of ['one.txt', 'two.txt']) await reads(rowOf(page, name), 'Canceled')
    await start('worker')
    for (const name of ['three.txt', 'four.txt']) await reads(rowOf(page, name), /^Delivered in/)

    await page.getByRole('checkbox', { name: 'Select all that are shown' }).check()
    await bar.getByRole('button', { name: 'Delete 4' }).click()
    await panel(page).getByRole('button', { name: 'Keep' }).click()
    await bar.getByRole('button', { name: 'Delete 4' }).click()
    await panel(page).getByRole('button', { name: 'Delete 4' }).click()
    await reads(page, 'Nothing here yet')
    await eventually('what the provider had is gone', async () => (await ask(user, '/v1/files')).files.length === 0)
  })

  test('that failed are retried together', async (t) => {
    const user = someone()
    const undo = await simulate(t, 'uploadcare', 'config', { max_file_size: 10 })
    await some(user, ['red.txt', 'blue.txt', 'green.txt'])
    const page = await visit(t, { user })
    for (const name of ['red.txt', 'blue.txt', 'green.txt']) await reads(rowOf(page, name), 'Did not reach Uploadcare')
    await undo()
    await page.getByRole('button', { name: 'Retry all failed…' }).click()
    await panel(page).getByRole('button', { name: 'Retry 3' }).click()
    for (const name of ['red.txt', 'blue.txt', 'green.txt']) await reads(rowOf(page, name), /^Delivered in/)
  })

  test('are narrowed to those that are looked for', async (t) => {
    const user = someone()
    await some(user, ['summer-1.txt', 'summer-2.txt', 'winter.txt'])
    const page = await visit(t, { user })
    await reads(rowOf(page, 'winter.txt'), /^Delivered in/)
    await page.getByRole('searchbox', { name: 'Names that begin with' }).fill('summer')
    await rowOf(page, 'winter.txt').waitFor({ state: 'hidden' })
    await rowOf(page, 'summer-1.txt').waitFor()
    await page.getByRole('button', { name: 'Failed', exact: true }).click()
    await reads(page, 'No upload is like that.')
    await accessible(page, 'a list of nothing')
    await page.getByRole('button', { name: 'Show all' }).click()
    await rowOf(page, 'winter.txt').waitFor()
  })
})
