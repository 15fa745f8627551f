// Keeps the contract of Cloudinary's Upload Widget ("Upload Widget API reference", read November 2026), for
// one file at a time: it has uploadSignature sign what it is about to send, sends that with the file, and
// tells the callback what Cloudinary has answered. Its dialog is a plain file field.
window.cloudinary = {
  createUploadWidget({ cloudName, apiKey, uploadSignature }, callback) {
    const input = Object.assign(document.createElement('input'), { type: 'file' })
    input.addEventListener('change', () => {
      const params = { source: 'uw', timestamp: Math.round(Date.now() / 1000) }
      uploadSignature((signature) => send(input.files[0], { ...params, api_key: apiKey, signature }), params)
    })

    async function send(file, fields) {
      const body = new FormData()
      for (const [name, value] of Object.entries(fields)) body.append(name, value)
      body.append('file', file)
      const answer = await fetch(`https://api.cloudinary.com/v1_1/${cloudName}/auto/upload`, {
        method: 'POST', body, headers: { 'X-Requested-With': 'XMLHttpRequest', 'X-Unique-Upload-Id': crypto.randomUUID() },
      })
      const info = await answer.json()
      if (answer.ok) callback(null, { event: 'success', info })
      else callback({ status: answer.statusText, message: info.error.message }, null)
    }

    return { open: () => document.body.append(input), close: () => input.remove() }
  },
}
