// Drives the simulator with Cloudinary's own Node client. CLOUDINARY_URL names the simulator
// by its upload_prefix and must be set before the client is loaded: that is when it chooses
// between http and https.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const require = createRequire(new URL('../../clients/package.json', import.meta.url));
const { v2: cloudinary } = require('cloudinary');
const { uploader, api, utils } = cloudinary;
const site = process.env.SIM_URL;

const folder = mkdtempSync(join(tmpdir(), 'cloudinary-client-'));
const file = (name, content) => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};
const md5 = (content) => createHash('md5').update(content).digest('hex');
const fetched = async (url) => Buffer.from(await (await fetch(url)).arrayBuffer());
const config = (settings) => fetch(`${site}/_sim/config`, { method: 'POST', body: JSON.stringify(settings) });

// refused waits for the client to report an error with that HTTP status.
const refused = (promise, code, message) => promise.then(
  (result) => assert.fail(`not refused: ${JSON.stringify(result)}`),
  (reason) => {
    const error = reason.error ?? reason;
    assert.equal(error.http_code, code, error.message);
    assert.match(error.message, message);
  },
);

// chunked turns the client's callbacks into a promise.
const chunked = (start) => new Promise((resolve, reject) => {
  start((error, result) => (error ? reject(error) : resolve(result)));
});
const streamed = (content, options) => chunked((done) => {
  createReadStream(file('streamed', content)).pipe(uploader.upload_chunked_stream(options, done));
});

const small = randomBytes(1 << 20);
const large = randomBytes(12 << 20);
const chunk_size = 5_243_000;

const cases = {
  async 'upload takes a file with its tags and context'() {
    const result = await uploader.upload(file('père & fils (1).mp4', small), {
      public_id: 'films/1', resource_type: 'video', tags: ['a', 'b'], context: { alt: 'x|y=z' }, overwrite: true,
    });
    assert.equal(result.public_id, 'films/1');
    assert.equal(result.etag, md5(small));
    assert.equal(result.bytes, small.length);
    assert.equal(result.original_filename, 'père & fils (1)');
    assert.deepEqual(result.tags, ['a', 'b']);
    assert.deepEqual(result.context, { custom: { alt: 'x|y=z' } });
    assert.ok(utils.verify_api_response_signature(result.public_id, result.version, result.signature));
    assert.deepEqual(await fetched(result.secure_url), small);
  },

  async 'upload signs arrays, & and SHA-256'() {
    const result = await uploader.upload(file('a.bin', small), {
      resource_type: 'raw', folder: 'a b', allowed_formats: ['bin', 'txt'], filename_override: 'x & y.bin',
      signature_algorithm: 'sha256',
    });
    assert.equal(result.original_filename, 'x & y');
    assert.match(result.public_id, /^a b\/[a-z2-7]{20}\.bin$/);
  },

  async 'upload_large sends chunks without knowing the total'() {
    const result = await chunked((done) => uploader.upload_large(
      file('film.mp4', large), { resource_type: 'video', public_id: 'large', chunk_size }, done));
    assert.equal(result.done, true);
    assert.equal(result.etag, md5(large));
    assert.equal(result.bytes, large.length);
    assert.deepEqual(await fetched(result.secure_url), large);
  },

  async 'upload_large takes a file of one chunk'() {
    const result = await chunked((done) => uploader.upload_large(file('one', small), { public_id: 'one', chunk_size }, done));
    assert.equal(result.resource_type, 'raw');
    assert.equal(result.etag, md5(small));
  },

  async 'upload_chunked_stream sends chunks'() {
    const result = await streamed(large, { resource_type: 'raw', public_id: 'streamed', chunk_size });
    assert.equal(result.etag, md5(large));
  },

  async 'chunks of 5 MB or less are refused'() {
    await refused(streamed(large, { resource_type: 'raw', chunk_size: 1 << 20 }), 400, /larger than 5mb/);
  },

  async 'a wrong secret is refused'() {
    await refused(uploader.upload(file('a', small), { api_secret: 'wrong' }), 401, /Invalid Signature/);
    await refused(api.ping({ api_secret: 'wrong' }), 401, /api_secret mismatch/);
  },

  async 'an old timestamp is refused'() {
    await refused(uploader.upload(file('a', small), { timestamp: 1315060510 }), 400, /Stale request/);
  },

  async 'an empty file is refused'() {
    await refused(uploader.upload(file('empty', ''), { resource_type: 'raw' }), 400, /Empty file/);
  },

  async 'unsigned_upload needs a preset'() {
    await config({ presets: { open: { folder: 'in' } } });
    const result = await uploader.unsigned_upload(file('a', small), 'open', { resource_type: 'raw' });
    assert.match(result.public_id, /^in\//);
    await refused(uploader.unsigned_upload(file('a', small), 'none', { resource_type: 'raw' }), 400, /preset not found/);
  },

  async 'the same public_id is overwritten, or said to exist'() {
    const options = { resource_type: 'raw', public_id: 'again' };
    const first = await uploader.upload(file('a', 'one'), options);
    const second = await uploader.upload(file('a', 'two!'), options);
    assert.equal(second.asset_id, first.asset_id);
    assert.equal(second.overwritten, true);
    assert.ok(second.version > first.version);
    const third = await uploader.upload(file('a', 'three'), { ...options, overwrite: false });
    assert.equal(third.existing, true);
    assert.equal(third.etag, md5('two!'));
  },

  async 'the Admin API shows, lists and deletes'() {
    await uploader.upload(file('a', 'one'), { resource_type: 'raw', public_id: 'docs/a' });
    await uploader.upload(file('a', 'two'), { resource_type: 'raw', public_id: 'docs/b' });
    const plain = await api.resource('docs/a', { resource_type: 'raw' });
    assert.equal(plain.etag, undefined);
    assert.equal(plain.rate_limit_allowed, 500);
    assert.ok(plain.rate_limit_reset_at > new Date());
    const asked = await api.resource('docs/a', { resource_type: 'raw', media_metadata: true });
    assert.equal(asked.etag, md5('one'));
    assert.equal((await api.resource_by_asset_id(asked.asset_id)).public_id, 'docs/a');
    await refused(api.resource('docs/a'), 404, /Resource not found - docs\/a/);

    const page = await api.resources({ resource_type: 'raw', type: 'upload', prefix: 'docs/', max_results: 1 });
    const next = await api.resources({
      resource_type: 'raw', type: 'upload', prefix: 'docs/', max_results: 1, next_cursor: page.next_cursor,
    });
    assert.deepEqual([page, next].map((p) => p.resources[0].public_id).sort(), ['docs/a', 'docs/b']);
    assert.equal(next.next_cursor, undefined);
    const named = await api.resources_by_ids(['docs/b', 'docs/none'], { resource_type: 'raw' });
    assert.deepEqual(named.resources.map((r) => r.public_id), ['docs/b']);

    const gone = await api.delete_resources(['docs/b', 'docs/none'], { resource_type: 'raw' });
    assert.deepEqual(gone.deleted, { 'docs/b': 'deleted', 'docs/none': 'not_found' });
    assert.deepEqual(await uploader.destroy('docs/a'), { result: 'not found' });
    assert.deepEqual(await uploader.destroy('docs/a', { resource_type: 'raw' }), { result: 'ok' });
    assert.equal((await api.ping()).status, 'ok');
    assert.equal((await api.usage()).media_limits.raw_max_size_bytes, 20e9);
  },

  async 'explicit and rename keep the asset'() {
    const uploaded = await uploader.upload(file('a', 'one'), { resource_type: 'raw', public_id: 'here' });
    const tagged = await uploader.explicit('here', { resource_type: 'raw', type: 'upload', tags: 'x' });
    assert.deepEqual(tagged.tags, ['x']);
    const moved = await uploader.rename('here', 'there', { resource_type: 'raw' });
    assert.equal(moved.asset_id, uploaded.asset_id);
    await refused(uploader.explicit('here', { resource_type: 'raw', type: 'upload' }), 404, /Resource not found - here/);
  },

  async 'an authenticated asset is delivered to signed addresses only'() {
    const result = await uploader.upload(file('a', small), { resource_type: 'video', type: 'authenticated', public_id: 'own' });
    assert.deepEqual(await fetched(result.secure_url), small);
    const address = (options) => utils.url('own.mp4', {
      resource_type: 'video', type: 'authenticated', version: result.version, secure: true, secure_distribution: 'x', urlAnalytics: false,
      private_cdn: false, ...options,
    }).replace(/^https:\/\/[^/]*/, site);
    assert.equal((await fetch(address({ sign_url: true }))).status, 200);
    assert.equal((await fetch(address({ sign_url: true, long_url_signature: true, transformation: { width: 100, crop: 'fill' } }))).status, 200);
    assert.equal((await fetch(address({}))).status, 401);
  },

  async 'a notification is signed by the secret'() {
    const receiver = createServer();
    await new Promise((resolve) => receiver.listen(0, '127.0.0.1', resolve));
    const told = new Promise((resolve) => {
      receiver.once('request', async (request, answer) => {
        const body = Buffer.concat(await request.toArray()).toString();
        answer.end();
        resolve({ body, headers: request.headers });
      });
    });
    await uploader.upload(file('a', small), {
      resource_type: 'raw', public_id: 'told', notification_url: `http://127.0.0.1:${receiver.address().port}/`,
    });
    const { body, headers } = await told;
    receiver.close();
    const [timestamp, signature] = [Number(headers['x-cld-timestamp']), headers['x-cld-signature']];
    assert.equal(utils.verifyNotificationSignature(body, timestamp, signature), true);
    assert.equal(utils.verifyNotificationSignature(`${body} `, timestamp, signature), false);
    assert.equal(JSON.parse(body).public_id, 'told');
  },

  async 'a spent quota is said'() {
    await config({ admin_quota: 1 });
    await refused(api.ping(), 420, /Limit of 1 api operations reached. Try again on \d{4}-\d\d-\d\d \d\d:00:00 UTC/);
  },
};

try {
  for (const [name, run] of Object.entries(cases)) {
    try {
      await run();
    } catch (reason) {
      throw new Error(name, { cause: reason });
    }
  }
} finally {
  rmSync(folder, { recursive: true });
}
console.log(`${Object.keys(cases).length} cases passed`);
process.exit(0); // the client keeps its connections
