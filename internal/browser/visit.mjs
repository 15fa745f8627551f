// People in front of the page at /, and what stands behind it. The test that runs this names the APIs, the
// simulated providers, the worker's controls, and a folder.
import assert from 'node:assert/strict'
import { createHash, createHmac, randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { launch } from './chromium.mjs'
import { contents, save } from './samples.mjs'

export const { API, LOGIN_API, DEV_API, NO_WEB_API, MORTAL_API, FOLDER, SCREENSHOTS } = process.env
const { SECRET, SIM, PROGRAMS } = process.env

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const patience = 30_000 // milliseconds, more than a lost worker's uploads take to be taken over

let browser

// files are the paths of the samples.
export let files

// open and close are for before and after all tests.
export async function open() {
  files = await save(join(FOLDER, 'samples'), contents)
  browser = await launch()
  await start('worker')
}
export const close = () => browser?.close()

// someone is a user whom nobody else is.
export const someone = (name = 'somebody') => `${name}-${randomUUID().slice(0, 8)}`

// tokenFor is what a user brings who has signed in, for some seconds.
export function tokenFor(user, seconds = 3600) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub: user, exp: Math.floor(Date.now() / 1000) + seconds })}`
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`
}

// visit opens the page for a user, by a token in its address, or for nobody. What goes wrong in the page, or
// against its policy, fails the test; so does an answer of 4xx or 5xx that matches none of refusals.
export async function visit(t, { user, token = user && tokenFor(user), at = API, path = '/', cookies, refusals, prepare, ...options } = {}) {
  const context = await browser.newContext({ locale: 'en-GB', timezoneId: 'UTC', reducedMotion: 'reduce', permissions: ['clipboard-read', 'clipboard-write'], ...options })
  t.after(() => context.close())
  context.setDefaultTimeout(patience)
  if (cookies) await context.addCookies(cookies)
  await prepare?.(context)
  const wrong = []
  context.on('page', (page) => {
    page.on('dialog', (dialog) => dialog.accept()) // whether to leave although files are being sent
    page.on('pageerror', (error) => wrong.push(error.stack))
    page.on('console', (message) => message.type() === 'error' && !message.text().startsWith('Failed to load resource') && wrong.push(message.text()))
    page.on('response', (answer) => {
      const what = `${answer.request().method()} ${new URL(answer.url()).pathname} ${answer.status()}`
      if (answer.status() >= 400 && !refusals?.test(what)) wrong.push(what)
    })
  })
  t.after(() => assert.deepEqual(wrong, []))
  const page = await context.newPage()
  await page.goto(`${at}${path}${token ? `#token=${token}` : ''}`)
  return page
}

// place is where files are sent from, and panel where one upload is shown closely, or a question.
export const place = (page) => page.getByRole('region', { name: 'Send files' })
export const panel = (page) => page.getByRole('dialog')

// rowOf is an upload's place in the list.
export const rowOf = (page, name) => page.getByRole('list', { name: 'Uploads' }).getByRole('listitem').filter({ has: page.getByRole('link', { name, exact: true }) })

// reads waits until something has this text.
export const reads = (place, text) => place.getByText(text).first().waitFor()

// received waits until the page says that all is here that was chosen.
export const received = (page) => reads(place(page), 'It is safe to close this tab.')

// choose takes files into the page by its file chooser.
export const choose = (page, ...paths) => page.locator('input[type=file]').first().setInputFiles(paths)

// drop lets files fall on the page, as from a file manager.
export async function drop(page, place, ...paths) {
  const box = await place.boundingBox()
  const session = await page.context().newCDPSession(page)
  const data = { items: [], files: paths, dragOperationsMask: 1 }
  for (const type of ['dragEnter', 'dragOver', 'drop']) {
    await session.send('Input.dispatchDragEvent', { type, x: box.x + box.width / 2, y: box.y + box.height / 2, data })
  }
}

// line makes the page's way to the network as slow as this, in bytes per second; -1 is as fast as there is.
export async function line(page, bytes) {
  const session = await page.context().newCDPSession(page)
  await session.send('Network.enable')
  await session.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: bytes })
}

// lead counts the uploads that a page makes, and notes from where it sends bytes.
export function lead(page) {
  const seen = { made: 0, from: [] }
  page.on('request', (request) => {
    if (!new URL(request.url()).pathname.startsWith('/v1/tus/')) return
    seen.made += request.method() === 'POST'
    if (request.method() === 'PATCH') seen.from.push(Number(request.headers()['upload-offset']))
  })
  return seen
}

// simulate tells a simulated provider how to behave, until the test ends.
export async function simulate(t, provider, control, how) {
  const post = async (method, body) => {
    const answer = await fetch(`${SIM}/_sim/${provider}/${control}`, { method, body: body && JSON.stringify(body) })
    assert.ok(answer.ok, `${control}: ${answer.status}`)
  }
  await post('POST', how)
  const back = { line: { bytes_per_second: 0, latency_ms: 0 }, config: { max_file_size: 0 } }[control]
  const undo = () => post(back ? 'POST' : 'DELETE', back)
  let undone = false
  t.after(() => undone || undo())
  return async () => {
    undone = true
    await undo()
  }
}

// start sees to it that the worker, or the API at MORTAL_API, runs; kill, that it does not.
export const start = (program) => change(program, 'POST')
export const kill = (program) => change(program, 'DELETE')

async function change(program, method) {
  const answer = await fetch(`${PROGRAMS}/${program}`, { method })
  assert.ok(answer.ok, `${program}: ${await answer.text()}`)
}

// ask asks the API as a user.
export async function ask(user, path, { at = API, headers, ...request } = {}) {
  const answer = await fetch(at + path, { ...request, headers: { Authorization: `Bearer ${tokenFor(user)}`, Accept: 'application/json', ...headers } })
  assert.ok(answer.ok, `${path}: ${answer.status} ${answer.ok || (await answer.text())}`)
  return answer.json()
}

// begin gives Slipway the first bytes of a file, as a client does that was cut off.
export async function begin(user, name, content, length, provider = 'uploadcare') {
  const encode = (text) => Buffer.from(text).toString('base64')
  const headers = { Authorization: `Bearer ${tokenFor(user)}`, 'Tus-Resumable': '1.0.0' }
  const made = await fetch(`${API}/v1/tus/`, {
    method: 'POST', headers: { ...headers, 'Upload-Length': content.length, 'Upload-Metadata': `filename ${encode(name)},provider ${encode(provider)}` },
  })
  assert.equal(made.status, 201)
  const sent = await fetch(new URL(made.headers.get('Location'), API), {
    method: 'PATCH', headers: { ...headers, 'Upload-Offset': '0', 'Content-Type': 'application/offset+octet-stream' }, body: content.subarray(0, length),
  })
  assert.equal(sent.status, 204)
}

// send gives Slipway a file by another way than the page.
export const send = (user, name, content, provider = 'uploadcare', kind = 'application/octet-stream') =>
  ask(user, `/v1/uploads?file_name=${encodeURIComponent(name)}&provider=${provider}`, { method: 'POST', body: content, headers: { 'Content-Type': kind } })

// eventually waits until something is so.
export async function eventually(what, is) {
  for (const end = Date.now() + patience; !(await is()); ) {
    assert.ok(Date.now() < end, `waited in vain for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

export const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')

// accessible checks a state of the page by axe, light and dark.
export async function accessible(page, state) {
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme })
    if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(axe)
    const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }))
    const told = violations.map(({ id, help, nodes }) => `${id}: ${help}\n${nodes.map((n) => `  ${n.html}\n  ${n.failureSummary}`).join('\n')}`)
    assert.equal(told.join('\n'), '', `${state}, ${colorScheme}`)
  }
}
