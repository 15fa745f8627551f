// Uploads FILE to ENDPOINT with tus-js-client, as OPTIONS say, and prints {"url": where it is, "resumed": whether
// an earlier run had begun it}. What it knows of uploads that are not finished stands in the file KNOWN.
import { createReadStream } from 'node:fs'
import { basename } from 'node:path'
import { FileUrlStorage, Upload } from 'tus-js-client'

const { ENDPOINT, FILE, KNOWN, OPTIONS } = process.env
process.stdin.on('end', () => process.exit(1)).resume().unref() // ends with the test that runs it

const upload = new Upload(createReadStream(FILE), {
  endpoint: ENDPOINT,
  urlStorage: new FileUrlStorage(KNOWN),
  retryDelays: Array(100).fill(200),
  metadata: { filename: basename(FILE), filetype: 'video/mp4' },
  ...JSON.parse(OPTIONS),
  onError(error) {
    console.error(error)
    process.exit(1)
  },
  onSuccess() {
    console.log(JSON.stringify({ url: upload.url, resumed: known !== undefined }))
    process.exit(0)
  },
})
const [known] = await upload.findPreviousUploads()
if (known) upload.resumeFromPreviousUpload(known)
upload.start()
