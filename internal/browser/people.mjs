// Uses the page at / as whoever they are, and with whatever they have in hand.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { contents, MiB } from './samples.mjs'
import * as visits from './visit.mjs'
import {
  accessible, API, ask, choose, drop, eventually, files, kill, lead, line, LOGIN_API, MORTAL_API, NO_WEB_API, panel, place, reads, received, rowOf,
  send, someone, start, tokenFor, visit,
} from './visit.mjs'

before(visits.open)
after(visits.close)

const cookieOf = (user) => [{ name: 'session', value: tokenFor(user), url: API, httpOnly: true, sameSite: 'Lax' }]

// signedOut has a page send one file, while another waits, when nobody is signed in any more.
async function signedOut(page) {
  await reads(page, 'Nothing here yet')
  await line(page, 0.75 * MiB)
  await choose(page, files['ferry.mp4'])
  await reads(rowOf(page, 'ferry.mp4'), /^Coming in, [2-9]\d %$/)
  await page.getByRole('button', { name: 'Pause' }).first().click()
  await page.context().clearCookies()
  await page.getByRole('button', { name: 'Go on' }).first().click()
  await page.getByRole('heading', { name: 'You are signed out' }).waitFor()
  await drop(page, page.getByRole('alert'), files['logbook.pdf'])
}

describe('who is asking', () => {
  test('is known by the token in the address, which is taken out of it', async (t) => {
    const user = someone()
    await send(user, 'mine.txt', 'This is mine.')
    const page = await visit(t, { user })
    await rowOf(page, 'mine.txt').waitFor()
    assert.equal(page.url(), `${API}/`)
    assert.equal(await page.evaluate(() => history.length), 2) // the blank page, and this one
    await page.reload()
    await rowOf(page, 'mine.txt').waitFor()
    assert.deepEqual(await page.context().cookies(), [])
    assert.deepEqual(await page.evaluate(() => Object.values(localStorage).filter((v) => v.includes('eyJ'))), [])
  })

  test('is known by a cookie', async (t) => {
    const user = someone()
    const page = await visit(t, { cookies: cookieOf(user) })
    await choose(page, files['dusk.png'])
    await reads(rowOf(page, 'dusk.png'), /^Delivered in/)
    await page.getByRole('button', { name: 'Delete dusk.png' }).click()
    await panel(page).getByRole('button', { name: 'Delete', exact: true }).click()
    await reads(page, 'Nothing here yet')
  })

  test('sees nothing of what is somebody else’s', async (t) => {
    const [ann, bob] = [someone('ann'), someone('bob')]
    const { id } = await send(ann, 'ann.txt', 'This is Ann’s.')
    const at = { ann: await visit(t, { user: ann }), bob: await visit(t, { cookies: cookieOf(bob), refusals: new RegExp(`GET /v1/uploads/${id}.* 404`) }) }
    await rowOf(at.ann, 'ann.txt').waitFor()
    await reads(at.bob, 'Nothing here yet')
    await choose(at.bob, files['logbook.pdf'])
    await reads(rowOf(at.bob, 'logbook.pdf'), /^Delivered in/)
    await send(ann, 'more.txt', 'This is Ann’s as well.')
    await rowOf(at.ann, 'more.txt').waitFor()
    assert.equal(await at.ann.getByText('logbook.pdf').count(), 0)
    assert.equal(await at.bob.getByText(/ann|more/).count(), 0)
    await at.bob.goto(`${API}/#upload/${id}`)
    await reads(at.bob, 'There is no such upload, or it is somebody else’s.')
  })

  test('is led to where one signs in, and back', async (t) => {
    const user = someone()
    const page = await visit(t, {
      at: LOGIN_API, refusals: /^GET \/v1\/\w+ 401$/,
      prepare: (context) => context.route('https://login.example/**', (route) => {
        const asked = new URL(route.request().url())
        assert.equal(asked.searchParams.get('app'), 'files')
        route.fulfill({ contentType: 'text/html', body: `<title>Sign in</title><a href="${asked.searchParams.get('return_to')}#token=${tokenFor(user)}">I am ${user}</a>` })
      }),
    })
    await page.getByRole('heading', { name: 'Sign in to see your uploads' }).waitFor()
    await accessible(page, 'nobody is signed in')
    await page.getByRole('link', { name: 'Sign in' }).click()
    await page.getByRole('link', { name: `I am ${user}` }).click()
    await reads(page, 'Nothing here yet')
    assert.equal(page.url(), `${LOGIN_API}/`)
  })

  test('is told what is missing where nobody can sign in', async (t) => {
    const page = await visit(t, { refusals: /^GET \/v1\/\w+ 401$/ })
    await reads(page, 'Sign in at the app that this Slipway belongs to, and come back.')
    await page.context().addCookies(cookieOf(someone()))
    await page.getByRole('button', { name: 'Try again' }).click()
    await reads(page, 'Nothing here yet')
  })

  test('may be signed out in the middle, and loses nothing', async (t) => {
    const user = someone()
    const page = await visit(t, { cookies: cookieOf(user), refusals: / 401$/ })
    const seen = lead(page)
    await signedOut(page)
    await accessible(page, 'signed out in the middle')
    await line(page, -1)
    const other = await page.context().newPage() // as the one in which somebody signs in
    await other.goto(`${API}/#token=${tokenFor(user)}`)
    await received(page)
    for (const name of ['ferry.mp4', 'logbook.pdf']) await reads(rowOf(page, name), /^Delivered in/)
    assert.equal(seen.made, 2)
    assert.ok(seen.from.some((offset) => offset >= MiB), `it went on from ${seen.from}`)
    assert.equal((await ask(user, '/v1/uploads')).uploads.length, 2)
  })

  test('may become somebody else, who sees nothing of the one before', async (t) => {
    const [ann, bob] = [someone('ann'), someone('bob')]
    const { id } = await send(ann, 'ann.txt', 'This is Ann’s.')
    const page = await visit(t, { user: ann, refusals: new RegExp(`GET /v1/uploads/${id}.* 404`) })
    await page.goto(`${API}/#upload/${id}`)
    await panel(page).getByRole('heading', { name: 'ann.txt' }).waitFor()
    await page.evaluate((token) => { location.hash = `token=${token}` }, tokenFor(bob))
    await reads(page, 'Nothing here yet')
    assert.equal(await page.getByText('ann.txt').count(), 0)
    await page.goto(`${API}/#upload/${id}`)
    await reads(panel(page), 'There is no such upload, or it is somebody else’s.')
    await page.keyboard.press('Escape')
    await send(bob, 'bob.txt', 'This is Bob’s.')
    await send(ann, 'more.txt', 'This is Ann’s as well.')
    await reads(rowOf(page, 'bob.txt'), /^Delivered in/)
    assert.equal(await page.getByText(/ann|more/).count(), 0)
  })

  test('sends nothing that somebody else has chosen', async (t) => {
    const [ann, bob] = [someone('ann'), someone('bob')]
    const page = await visit(t, { cookies: cookieOf(ann), refusals: / 401$/ })
    const seen = lead(page)
    await signedOut(page)
    await line(page, -1)
    const other = await page.context().newPage()
    await other.goto(`${API}/#token=${tokenFor(bob)}`)
    await reads(page, 'Files that were still to be sent are not: somebody else has chosen them.')
    await choose(page, files['dusk.png'])
    await received(page)
    await reads(rowOf(page, 'dusk.png'), /^Delivered in/)
    assert.equal(seen.made, 2)
    assert.deepEqual((await ask(bob, '/v1/uploads')).uploads.map((u) => u.file_name), ['dusk.png'])
    assert.deepEqual((await ask(ann, '/v1/uploads')).uploads.map((u) => [u.file_name, u.status]), [['ferry.mp4', 'receiving']])
  })

  test('comes from a form’s page with the token in its query', async (t) => {
    const user = someone()
    await send(user, 'form.txt', 'This came by a form.')
    const page = await visit(t, { path: `/?token=${tokenFor(user)}` })
    await rowOf(page, 'form.txt').waitFor()
    assert.equal(page.url(), `${API}/`)
  })
})

describe('the page', () => {
  test('is used with the keyboard alone', async (t) => {
    const user = someone()
    await send(user, 'first.txt', 'This is the first.')
    await send(user, 'second.txt', 'This is the second.')
    const page = await visit(t, { user })
    await reads(rowOf(page, 'second.txt'), /^Delivered in/)
    await reads(rowOf(page, 'first.txt'), /^Delivered in/)

    // to goes on with Tab to a control, each of which on the way can be seen to have the focus.
    const to = async (role, name) => {
      const goal = page.getByRole(role, { name, exact: true }).first()
      for (let n = 0; n < 60; n++) {
        await page.keyboard.press('Tab')
        const shown = await page.evaluate(() => {
          const at = document.activeElement
          if (!at || at === document.body) return true
          const marked = (el) => { const s = getComputedStyle(el); return (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 1) || s.boxShadow !== 'none' }
          return marked(at) || [at.nextElementSibling, at.parentElement, at.closest('label')].some((el) => el && marked(el)) || at.outerHTML.slice(0, 200)
        })
        assert.equal(shown, true, 'it has the focus, and nobody sees that')
        if (await goal.evaluate((el) => el === document.activeElement).catch(() => false)) return
      }
      assert.fail(`Tab does not lead to ${role} ${name}`)
    }

    const chooser = page.waitForEvent('filechooser')
    await to('button', 'choose them')
    await page.keyboard.press('Enter')
    await (await chooser).setFiles(files['logbook.pdf'])
    await reads(rowOf(page, 'logbook.pdf'), /^Delivered in/)

    await to('checkbox', 'Select second.txt')
    await page.keyboard.press('Space')
    await to('link', 'first.txt')
    await page.keyboard.press('Enter')
    await panel(page).getByRole('heading', { name: 'first.txt' }).waitFor()
    await to('button', 'Copy the link')
    await page.keyboard.press('Enter')
    await reads(page, 'The link is copied.')
    await page.keyboard.press('Escape')
    await panel(page).waitFor({ state: 'hidden' })
    await to('button', 'Delete 1')
    await page.keyboard.press('Enter')
    await panel(page).getByRole('heading', { name: 'Delete “second.txt”?' }).waitFor()
    await to('button', 'Delete')
    await page.keyboard.press('Enter')
    await rowOf(page, 'second.txt').waitFor({ state: 'hidden' })
  })

  test('fits on a phone', async (t) => {
    const user = someone()
    await send(user, `${'a-name-that-is-much-too-long-'.repeat(5)}.pdf`, contents['logbook.pdf'])
    const page = await visit(t, { user, viewport: { width: 360, height: 640 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 })
    const fits = async (state) => {
      const wide = await page.evaluate(() => document.scrollingElement.scrollWidth)
      assert.ok(wide <= 360, `${state} is ${wide} wide`)
      await accessible(page, `${state}, on a phone`)
    }
    await choose(page, files['dusk.png'])
    const row = rowOf(page, 'dusk.png')
    await reads(row, /^Delivered in/)
    await fits('the list')
    const small = await page.getByRole('button').or(page.getByRole('link')).or(page.getByRole('checkbox')).evaluateAll((controls) => controls
      .filter((c) => c.checkVisibility() && c.getBoundingClientRect().width > 1 && getComputedStyle(c).display !== 'inline') // within a sentence
      .map((c) => ({ box: (c.closest('label') ?? c).getBoundingClientRect(), name: c.ariaLabel ?? c.textContent }))
      .filter(({ box }) => box.height < 24 || box.width < 24).map(({ box, name }) => `${name}: ${box.width} × ${box.height}`))
    assert.deepEqual(small, []) // WCAG 2.2, 2.5.8
    await row.getByRole('link', { name: 'dusk.png', exact: true }).tap()
    await panel(page).getByRole('heading', { name: 'dusk.png' }).waitFor()
    await fits('an upload')
  })

  test('shows an upload that it is opened with', async (t) => {
    const user = someone()
    const { id } = await send(user, 'linked.txt', 'This is linked to.')
    const page = await visit(t, { cookies: cookieOf(user), path: `/#upload/${id}` })
    await panel(page).getByRole('heading', { name: 'linked.txt' }).waitFor()
    await reads(panel(page), 'Delivered to Uploadcare')
  })

  test('is light or dark as the browser is', async (t) => {
    const page = await visit(t, { user: someone() })
    await reads(page, 'Nothing here yet')
    await place(page).getByRole('button', { name: 'choose them' }).waitFor()
    const brightness = () => page.evaluate(() => ['body', '.uppy-Dashboard-inner'].map((where) => {
      for (let el = document.querySelector(where); el; el = el.parentElement) {
        const [r, g, b, a = 1] = getComputedStyle(el).backgroundColor.match(/[\d.]+/g).map(Number)
        if (a > 0) return (r + g + b) / 3
      }
      return 255
    }))
    await page.emulateMedia({ colorScheme: 'light' })
    await eventually('light', async () => (await brightness()).every((b) => b > 200))
    await page.emulateMedia({ colorScheme: 'dark' })
    await eventually('dark', async () => (await brightness()).every((b) => b < 80))
    await accessible(page, 'nothing yet')
  })

  test('says so when Slipway is away, and goes on where that was killed', async (t) => {
    const user = someone()
    await start('api')
    t.after(() => kill('api'))
    await eventually('the API', () => fetch(`${MORTAL_API}/readyz`).then((answer) => answer.ok, () => false))
    const page = await visit(t, { user, at: MORTAL_API, refusals: /^HEAD .* 502$/ })
    const seen = lead(page)
    await line(page, MiB)
    await choose(page, files['ferry.mp4'])
    await reads(rowOf(page, 'ferry.mp4'), /^Coming in, [3-9]\d %$/)
    await kill('api')
    await reads(page, /^No connection to Slipway/)
    await accessible(page, 'without a connection')
    await page.route('**/v1/tus/*', (route) => route.request().method() === 'HEAD' ? route.fulfill({ status: 502 }) : route.fallback(), { times: 2 }) // as a proxy before it
    await start('api')
    await line(page, -1)
    await received(page)
    await reads(rowOf(page, 'ferry.mp4'), /^Delivered in/)
    assert.equal(seen.made, 1)
    assert.ok(seen.from.at(-1) >= MiB, `it went on from ${seen.from}`)
  })

  test('is not there with WEB=off', async (t) => {
    for (const path of ['/', '/uploads/0193f1c2-0000-7000-8000-000000000000', '/assets/index.js']) {
      const answer = await fetch(NO_WEB_API + path, { headers: { Accept: 'text/html', Authorization: `Bearer ${tokenFor('ann')}` } })
      assert.equal(answer.status, 404)
      assert.match(answer.headers.get('Content-Type'), /problem\+json/)
    }
  })
})
