// Drives a simulated Uploadcare with the vendor's own clients. The test that runs it names the
// simulator: SIM_URL, PUBLIC_KEY, SECRET_KEY.
import assert from 'node:assert/strict'
import { createHash, createHmac } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { beforeEach, describe, test } from 'node:test'
import * as upload from '@uploadcare/upload-client'
import * as rest from '@uploadcare/rest-client'

const { SIM_URL: baseURL, PUBLIC_KEY: publicKey, SECRET_KEY: secretKey } = process.env
const api = { publicKey, baseURL, store: false }

const sim = async (path, method = 'GET', body) => {
  const answer = await fetch(baseURL + '/_sim/' + path, { method, body: body && JSON.stringify(body) })
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`)
  return answer.status === 204 ? undefined : answer.json()
}
const configure = (config) => sim('config', 'POST', config)
const md5 = (bytes) => createHash('md5').update(bytes).digest('hex')
const content = (n) => {
  const bytes = Buffer.allocUnsafe(n)
  for (let i = 0; i < n; i++) bytes[i] = i ^ (i >> 8) ^ (i >> 16)
  return bytes
}
const kept = async (uuid) => (await sim('files')).find((file) => file.uuid === uuid)
const code = (name) => (error) => error.code === name

beforeEach(async () => {
  await configure({ signed_uploads: false, autostore: true, throttle_next: 0, retry_after: 1, ready_delay_ms: 0, max_file_size: 0, account: '' })
  await sim('faults', 'DELETE')
  await sim('requests', 'DELETE')
})

describe('upload-client', () => {
  test('a small file goes up in one request', async () => {
    const bytes = Buffer.from('12345')
    const file = await upload.uploadFile(bytes, {
      ...api, fileName: 'père & fils (1).txt', contentType: 'text/plain', metadata: { album: '7' }, tags: ['Trip', 'sea']
    })
    assert.equal(file.size, 5)
    assert.equal(file.isStored, false)
    assert.equal(file.originalFilename, 'père & fils (1).txt')
    assert.equal(file.mimeType, 'text/plain')
    assert.deepEqual(file.metadata, { album: '7' })
    assert.deepEqual(file.tags, ['trip', 'sea'])
    assert.equal((await kept(file.uuid)).md5, md5(bytes))
  })

  test('a large file goes up in parts of the asked size', async () => {
    const bytes = content(26 << 20)
    const file = await upload.uploadFile(bytes, { ...api, fileName: 'film.mp4', contentType: 'video/mp4', multipartChunkSize: 6 << 20, store: true })
    assert.equal(file.isStored, true)
    assert.equal((await kept(file.uuid)).md5, md5(bytes))
    const parts = await sim('requests?method=PUT')
    assert.deepEqual(parts.requests.map((r) => +new URL(r.target, baseURL).searchParams.get('partNumber')).sort(), [1, 2, 3, 4, 5])
    assert.equal(parts.received, 26 << 20)
  })

  test('a file is waited for until it is ready', async () => {
    await configure({ ready_delay_ms: 300 })
    await upload.uploadFile(Buffer.from('x'), api)
    assert.ok((await sim('requests?target=/info/')).count >= 2)
  })

  test('an image is measured', async () => {
    const pixel = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64')
    const file = await upload.uploadFile(pixel, { ...api, fileName: 'pixel.png' })
    assert.equal(file.isImage, true)
    assert.equal(file.imageInfo.width, 1)
    assert.equal(file.contentInfo.mime.mime, 'image/png')
  })

  test('too small a multipart upload is refused', () =>
    assert.rejects(upload.multipartStart(100, api), code('MultipartFileSizeTooSmallError')))

  test('an unknown public key is refused', () =>
    assert.rejects(upload.base(Buffer.from('x'), { ...api, publicKey: 'another' }), code('ProjectPublicKeyInvalidError')))

  test('an unknown file is not found', () =>
    assert.rejects(upload.info('21975c81-7f57-4c7a-aef9-acfe28779f78', api), code('FileNotFoundError')))

  test('a project limit is told at the start', async () => {
    await configure({ max_file_size: 20_000_000 })
    await assert.rejects(upload.multipartStart(20_000_001, api), code('MultipartFileSizeLimitExceededError'))
  })

  test('one throttled request is repeated, two are an error', async () => {
    await configure({ throttle_next: 1 })
    await upload.base(Buffer.from('x'), api)
    await configure({ throttle_next: 2 })
    await assert.rejects(upload.base(Buffer.from('x'), api), code('RequestThrottledError'))
  })

  test('lost parts show when the upload is completed', async () => {
    await sim('faults', 'POST', { method: 'PUT', path: 'partNumber=2&', action: 'answer', status: 503 })
    await assert.rejects(upload.uploadFile(content(11 << 20), { ...api, multipartMinFileSize: 0 }), code('MultipartUploadSizeTooSmallError'))
  })

  test('auto-store that is off refuses to store at once', async () => {
    await configure({ autostore: false })
    await assert.rejects(upload.base(Buffer.from('x'), { ...api, store: true }), code('AutostoreDisabledError'))
  })

  test('signed uploads demand a signature that has not run out', async () => {
    await configure({ signed_uploads: true })
    const sign = (secureExpire) => ({
      ...api, secureExpire: String(secureExpire), secureSignature: createHmac('sha256', secretKey).update(String(secureExpire)).digest('hex')
    })
    const now = Math.floor(Date.now() / 1000)
    await upload.base(Buffer.from('x'), sign(now + 60))
    await assert.rejects(upload.base(Buffer.from('x'), api), code('SignatureRequiredError'))
    await assert.rejects(upload.base(Buffer.from('x'), sign(now - 60)), code('SignatureExpirationError'))
    await assert.rejects(upload.base(Buffer.from('x'), sign((now + 60) * 1000)), code('SignatureExpirationInvalidError'))
    await assert.rejects(upload.base(Buffer.from('x'), { ...sign(now + 60), secureSignature: 'no' }), code('SignatureInvalidError'))
  })

  test('a file is fetched from a URL', async () => {
    const bytes = content(100_000)
    const { file } = await upload.base(bytes, { ...api, fileName: 'source.bin' })
    const { token } = await upload.fromUrl(`${baseURL}/${file}/source.bin`, api)
    let status
    do {
      status = await upload.fromUrlStatus(token, api)
    } while (status.status === 'progress' || status.status === 'waiting')
    assert.equal(status.status, 'success')
    assert.equal((await kept(status.uuid)).md5, md5(bytes))
    assert.equal((await upload.fromUrlStatus('21975c81-7f57-4c7a-aef9-acfe28779f78', api)).status, 'unknown')
  })
})

for (const [name, authSchema] of [
  ['with simple authentication', new rest.UploadcareSimpleAuthSchema({ publicKey, secretKey })],
  ['with signed requests', new rest.UploadcareAuthSchema({ publicKey, secretKey })]
]) {
  describe('rest-client ' + name, () => {
    const settings = { apiBaseURL: baseURL, authSchema }
    const put = async () => (await upload.base(Buffer.from('x'), { ...api, fileName: 'x.txt' })).file

    test('a file is stored, shown and deleted', async () => {
      const uuid = await put()
      assert.equal((await rest.fileInfo({ uuid }, settings)).datetimeStored, null)
      const stored = await rest.storeFile({ uuid }, settings)
      assert.ok(stored.datetimeStored)
      assert.equal(stored.originalFileUrl, `${baseURL}/${uuid}/x.txt`)
      assert.equal((await rest.storeFile({ uuid }, settings)).datetimeStored, stored.datetimeStored)
      const deleted = await rest.deleteFile({ uuid }, settings)
      assert.ok(deleted.datetimeRemoved)
      assert.equal(deleted.originalFileUrl, null)
      assert.equal((await fetch(`${baseURL}/${uuid}/`)).status, 404)
    })

    test('files are stored and deleted in batches', async () => {
      const [one, two, unknown] = [await put(), await put(), '21975c81-7f57-4c7a-aef9-acfe28779f78']
      const stored = await rest.storeFiles({ uuids: [one, two, unknown] }, settings)
      assert.deepEqual(stored.problems, { [unknown]: 'Missing in the project' })
      assert.equal(stored.result.length, 2)
      assert.equal((await rest.deleteFiles({ uuids: [one, two] }, settings)).result.length, 2)
    })

    test('files are listed page by page', async () => {
      const uuids = [await put(), await put(), await put()]
      const listed = []
      for await (const page of rest.paginate(rest.listOfFiles)({ limit: 2, stored: false, ordering: 'datetime_uploaded' }, settings)) {
        listed.push(...page.results.map((file) => file.uuid))
      }
      assert.deepEqual(listed.slice(-3), uuids)
    })

    test('metadata is written, read and removed', async () => {
      const uuid = await put()
      await rest.updateMetadata({ uuid, key: 'upload_id', value: 'u-2' }, settings)
      assert.deepEqual(await rest.getMetadata({ uuid }, settings), { upload_id: 'u-2' })
      assert.equal(await rest.getMetadataValue({ uuid, key: 'upload_id' }, settings), 'u-2')
      await rest.deleteMetadata({ uuid, key: 'upload_id' }, settings)
      assert.deepEqual(await rest.getMetadata({ uuid }, settings), {})
    })

    test('a webhook is created, changed, told of an upload and deleted', async (t) => {
      const receiver = createServer().listen(0, '127.0.0.1')
      t.after(() => receiver.close())
      await once(receiver, 'listening')
      const targetUrl = `http://127.0.0.1:${receiver.address().port}/`
      const hook = await rest.createWebhook({ targetUrl: 'https://example.com/', event: 'file.uploaded', signingSecret: 'first' }, settings)
      assert.equal(hook.isActive, true)
      assert.equal(hook.signingSecret, 'first')
      await assert.rejects(rest.createWebhook({ targetUrl: 'https://example.com/', event: 'file.uploaded' }, settings), { status: 400 })
      const changed = await rest.updateWebhook({ id: hook.id, targetUrl, signingSecret: 'second' }, settings)
      assert.deepEqual({ ...changed, updated: hook.updated }, { ...hook, targetUrl, signingSecret: 'second' })

      const arrived = once(receiver, 'request')
      const uuid = await put()
      const [request, answer] = await arrived
      const body = Buffer.concat(await request.toArray())
      answer.end()
      assert.equal(request.headers['x-uc-signature'], 'v1=' + createHmac('sha256', 'second').update(body).digest('hex'))
      assert.equal(JSON.parse(body).data.uuid, uuid)

      assert.deepEqual((await rest.listOfWebhooks({}, settings)).map(({ id }) => id), [hook.id])
      await rest.deleteWebhook({ targetUrl }, settings)
      assert.deepEqual(await rest.listOfWebhooks({}, settings), [])
    })

    test('an unknown file is not found', () =>
      assert.rejects(rest.fileInfo({ uuid: '21975c81-7f57-4c7a-aef9-acfe28779f78' }, settings), { status: 404 }))

    test('a wrong secret is told', () => {
      const wrong = new authSchema.constructor({ publicKey, secretKey: 'another' })
      return assert.rejects(rest.fileInfo({ uuid: '21975c81-7f57-4c7a-aef9-acfe28779f78' }, { ...settings, authSchema: wrong }), { status: 401 })
    })
  })
}

test('rest-client is told when a throttled request may come back', async () => {
  const settings = { apiBaseURL: baseURL, authSchema: new rest.UploadcareAuthSchema({ publicKey, secretKey }) }
  await configure({ throttle_next: 1 })
  const began = Date.now()
  await rest.listOfFiles({}, settings)
  assert.ok(Date.now() - began >= 1000)
})
