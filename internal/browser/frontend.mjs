// Uses the pages of docs/frontend.md in Chromium. The test that runs it names the document, the folder
// that SITE serves, the APIs and the simulated providers.
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { launch } from './chromium.mjs'
import { publish } from './snippets.mjs'

const { DOCUMENT, PAGES, SITE, API, DEV_API, SIM } = process.env

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')
const picture = {
  name: 'pixel.png', mimeType: 'image/png',
  buffer: Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64'),
}
const film = { name: 'film.mp4', mimeType: 'video/mp4', buffer: randomBytes(1 << 20) }
const serial = { name: 'serial.mp4', path: join(PAGES, 'serial.mp4'), buffer: randomBytes(3 << 20) }
const tooLarge = join(PAGES, 'epic.mp4') // a file may have 4 MiB here

let browser
before(async () => {
  await publish(DOCUMENT, join(PAGES, 'signed-in'), API)
  await publish(DOCUMENT, join(PAGES, 'dev'), DEV_API)
  await writeFile(serial.path, serial.buffer)
  await writeFile(tooLarge, '')
  await truncate(tooLarge, 64 << 20)
  browser = await launch()
})
after(() => browser?.close())

// open shows a page to somebody who is signed in at the site, or to nobody.
async function open(t, path, user, prepare) {
  const context = await browser.newContext()
  t.after(() => context.close())
  context.setDefaultTimeout(30_000)
  if (user) await context.addCookies([{ name: 'user', value: user, url: SITE }])
  const page = await context.newPage()
  page.on('pageerror', (error) => t.diagnostic(`page: ${error.stack}`))
  page.on('console', (message) => message.type() === 'error' && t.diagnostic(`console: ${message.text()}`))
  await prepare?.(page)
  await page.goto(`${SITE}/${path}`)
  return page
}

// speechless is a page whose backend has nothing to say about who is asking.
const speechless = (page) => page.route('**/token', (route) => route.fulfill({ body: '' }))

// simulate tells the simulated Uploadcare how to behave.
const simulate = async (control, how) => {
  const answer = await fetch(`${SIM}/_sim/uploadcare/${control}`, { method: how ? 'POST' : 'DELETE', body: how && JSON.stringify(how) })
  assert.ok(answer.ok, await answer.text())
}

// inTheList looks at the user's files, of which the newest has to be this one, byte for byte.
async function inTheList(page, file, provider, name = file.name) {
  await page.goto(new URL('files.html', page.url()).href)
  await page.getByRole('listitem').filter({ hasText: name }).first().waitFor()
  const [newest, digest] = await page.evaluate(async () => {
    const { call } = await import('./slipway.js')
    const { files: [newest] } = await (await call('/v1/files')).json()
    const digest = await crypto.subtle.digest('SHA-256', await (await call(newest.links.content)).arrayBuffer())
    return [newest, Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('')]
  })
  assert.match(newest.file_name, new RegExp(name))
  assert.equal(newest.provider, provider)
  assert.equal(digest, sha256(file.buffer))
}

// send chooses a file in the page's form, and a provider if one is named, and sends it.
async function send(page, file, provider) {
  if (provider) await page.getByRole('combobox').selectOption(provider)
  await page.locator('[type=file]').setInputFiles(file)
  await page.getByRole('button', { name: 'Upload' }).click()
}

const says = (page, text) => page.getByRole('status').filter({ hasText: text }).waitFor()
const delivered = (page, file) => page.getByRole('link', { name: file.name }).waitFor()

describe('a form', () => {
  for (const [who, folder, api, user] of [['whoever is signed in', 'signed-in', API, 'kay'], ['anybody in slipway dev', 'dev', DEV_API]]) {
    test(`leads ${who} to the page of the upload, which shows that it is delivered`, async (t) => {
      const page = await open(t, `${folder}/form.html`, user)
      await send(page, film, 'cloudinary')
      await page.waitForURL(`${api}/uploads/*`)
      await page.getByText('Cloudinary has it.').waitFor()
      await page.getByRole('heading', { name: film.name }).waitFor()
      const { pathname, search } = new URL(page.url())
      const content = await fetch(`${api}/v1/files/${pathname.split('/').pop()}/content${search}`)
      assert.equal(sha256(Buffer.from(await content.arrayBuffer())), sha256(film.buffer))
      await page.goto(`${api}/${search}`)
      await page.getByRole('link', { name: film.name }).first().waitFor()
    })
  }

  test('tells on a page what is refused', async (t) => {
    const page = await open(t, 'signed-in/form.html', 'kay')
    await send(page, tooLarge)
    await page.getByText('The file is larger than 4').waitFor()
  })

  test('tells on a page that nobody is signed in', async (t) => {
    const page = await open(t, 'signed-in/form.html')
    await send(page, film)
    await page.getByText('Send a token').waitFor()
  })
})

describe('fetch', () => {
  test('shows how a file gets to its provider', async (t) => {
    const page = await open(t, 'signed-in/fetch.html', 'ada')
    const asked = []
    page.on('response', (answer) => /\/v1\/uploads\//.test(answer.url()) && answer.request().method() === 'GET' && asked.push(answer.status()))
    await simulate('faults', { method: 'POST', path: '^/base/', action: 'delay', delay: 3500, times: 1 })
    t.after(() => simulate('faults'))
    await send(page, film)
    await says(page, 'It is safe; you may close this page.')
    await page.locator('progress[value="0.5"]').waitFor()
    await delivered(page, film)
    assert.ok(asked.includes(304), `what had not changed was sent again: ${asked}`)
    await inTheList(page, film, 'uploadcare')
  })

  test('works in slipway dev, where nobody signs in', async (t) => {
    const page = await open(t, 'dev/fetch.html')
    await speechless(page)
    await send(page, picture)
    await delivered(page, picture)
    await inTheList(page, picture, 'uploadcare')
  })

  test('shows why a file is refused', async (t) => {
    const page = await open(t, 'signed-in/fetch.html', 'ada')
    await send(page, tooLarge)
    await says(page, 'The file is larger than 4')
    await speechless(page)
    await send(page, film)
    await says(page, 'Send a token in the header Authorization')
    await page.context().clearCookies()
    await page.unroute('**/token')
    await send(page, film)
    await says(page, 'Please sign in.')
  })

  test('shows why a provider refuses what was received', async (t) => {
    const page = await open(t, 'signed-in/fetch.html', 'ada')
    await simulate('config', { max_file_size: 1000 })
    t.after(() => simulate('config', { max_file_size: 0 }))
    await send(page, film)
    await says(page, 'File is too large')
  })
})

describe('Uppy', () => {
  test('shows both legs of several files', async (t) => {
    const page = await open(t, 'signed-in/uppy.html', 'grace')
    const files = [film, picture]
    await page.locator('input').setInputFiles(files)
    for (const { name } of files) {
      await page.getByRole('listitem').filter({ hasText: name }).getByRole('link', { name: 'delivered' }).waitFor()
    }
    assert.equal(await page.locator('progress[value="1"]').count(), files.length)
    await page.goto(`${SITE}/signed-in/files.html`)
    for (const file of files) await delivered(page, file)
  })

  test('shows why a file is refused, and sends it once', async (t) => {
    const page = await open(t, 'signed-in/uppy.html', 'grace')
    let sent = 0
    page.on('request', (request) => { sent += request.method() === 'POST' && request.url() === `${API}/v1/uploads` })
    await page.locator('input').setInputFiles(tooLarge)
    await says(page, 'The file is larger than 4')
    assert.equal(sent, 1)
    await page.context().clearCookies()
    await page.locator('input').setInputFiles(film)
    await says(page, 'Send a token in the header Authorization')
  })
})

describe('Uppy and tus', () => {
  // lead counts the uploads that a page makes by tus, and where it goes on with them.
  const lead = (page) => {
    const seen = { made: 0, from: [] }
    page.on('request', (request) => {
      if (!request.url().startsWith(`${API}/v1/tus/`)) return
      seen.made += request.method() === 'POST'
      if (request.method() === 'PATCH') seen.from.push(Number(request.headers()['upload-offset']))
    })
    return seen
  }
  const delivery = (page, file) => page.getByRole('listitem').filter({ hasText: file.name }).getByRole('link', { name: 'delivered' }).waitFor()

  test('shows both legs of several files', async (t) => {
    const page = await open(t, 'signed-in/tus.html', 'hedy')
    await page.locator('input').setInputFiles([film, picture])
    for (const file of [film, picture]) await delivery(page, file)
    assert.equal(await page.locator('progress[value="1"]').count(), 2)
    await page.goto(`${SITE}/signed-in/files.html`)
    for (const file of [film, picture]) await delivered(page, file)
  })

  test('goes on in a page that is opened again', async (t) => {
    const page = await open(t, 'signed-in/tus.html', 'annie')
    const seen = lead(page)
    const network = await page.context().newCDPSession(page)
    const line = (bytes) => network.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: bytes })
    await line(1 << 20)
    await page.locator('input').setInputFiles(serial.path)
    await page.waitForFunction(() => document.querySelector('progress')?.value > 0.2)
    await page.reload()
    await line(-1)
    await page.locator('input').setInputFiles(serial.path)
    await delivery(page, serial)
    assert.equal(seen.made, 1)
    assert.ok(seen.from.at(-1) >= 1 << 20, `it went on from ${seen.from}`)
    await inTheList(page, serial, 'uploadcare')
  })

  test('shows why a file is refused', async (t) => {
    const page = await open(t, 'signed-in/tus.html', 'hedy')
    await page.locator('input').setInputFiles(tooLarge)
    await says(page, 'The file is larger than 4')
    await page.context().clearCookies()
    await page.locator('input').setInputFiles(film)
    await says(page, 'Send a token in the header Authorization')
  })
})

describe("Cloudinary's Upload Widget", () => {
  // The real one is loaded from Cloudinary; widget.js keeps its side of the contract.
  const withWidget = async (t, user) => {
    const page = await open(t, 'signed-in/widget.html', user, async (page) => {
      const widget = await readFile(join(import.meta.dirname, 'widget.js'), 'utf8')
      await page.route('https://upload-widget.cloudinary.com/latest/global/all.js', (route) => route.fulfill({
        contentType: 'text/javascript', body: widget.replace('https://api.cloudinary.com', SIM),
      }))
    })
    await page.getByRole('button', { name: 'Upload' }).click()
    return page
  }

  test('sends a file that is then saved', async (t) => {
    const page = await withWidget(t, 'joan')
    await page.locator('input').setInputFiles(picture)
    await delivered(page, { name: 'pixel' })
    await inTheList(page, picture, 'cloudinary', /^\w{20}/) // Cloudinary's random name
  })

  test('shows why nothing is signed', async (t) => {
    const page = await withWidget(t, 'joan')
    await page.locator('input').waitFor()
    await speechless(page)
    await page.locator('input').setInputFiles(picture)
    await page.getByText('Send a token in the header Authorization').waitFor()
    assert.equal(await page.locator('input').count(), 0, 'the widget is still open')
  })

  test('shows that nobody is signed in', async (t) => {
    const page = await withWidget(t)
    await page.getByText('Please sign in.').waitFor()
  })
})

describe("Uploadcare's client", () => {
  test('sends a file that is then saved', async (t) => {
    const page = await open(t, 'signed-in/uploadcare.html', 'mary')
    await page.locator('input').setInputFiles(film)
    await delivered(page, film)
    await inTheList(page, film, 'uploadcare')
  })

  test('shows why nothing is signed', async (t) => {
    const page = await open(t, 'signed-in/uploadcare.html')
    await page.locator('input').setInputFiles(film)
    await says(page, 'Please sign in.')
  })
})

describe('without a package', () => {
  for (const provider of ['uploadcare', 'cloudinary']) {
    test(`a file goes straight to ${provider} and is saved`, async (t) => {
      const page = await open(t, 'signed-in/direct.html', 'rosa')
      await send(page, film, provider)
      await delivered(page, film)
      await inTheList(page, film, provider)
    })
  }

  test('shows why a provider refuses', async (t) => {
    const page = await open(t, 'signed-in/direct.html', 'rosa')
    await simulate('config', { max_file_size: 1000 })
    t.after(() => simulate('config', { max_file_size: 0 }))
    await send(page, film, 'uploadcare')
    await says(page, 'It was not taken: File is too large.')
  })
})

test('the list tells who is not signed in', async (t) => {
  const page = await open(t, 'signed-in/files.html')
  await says(page, 'Please sign in.')
})

test('a page may read the headers that it needs', async (t) => {
  const page = await open(t, 'signed-in/files.html', 'vera')
  const read = await page.evaluate(async () => {
    const { call } = await import('./slipway.js')
    const body = new FormData()
    body.append('file', new File(['x'], 'x.txt'))
    const created = await call('/v1/uploads', { method: 'POST', body, headers: { Prefer: 'respond-async', 'Idempotency-Key': '"1"' } })
    const location = created.headers.get('Location')
    const asked = await call(new URL(location).pathname)
    return [...created.headers.keys(), ...asked.headers.keys()]
  })
  for (const name of ['location', 'retry-after', 'preference-applied', 'etag', 'x-request-id']) {
    assert.ok(read.includes(name), `${name} is not among ${read}`)
  }
})
