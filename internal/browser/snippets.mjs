// Takes pages out of a document and makes a site of them.
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { build } from 'esbuild'

// A block of code whose first line is its file's name.
const snippet = /^```(?:html|js)\n(?:<!-- (\S+) -->|\/\/ (\S+))\n(.*?)^```$/gms
const script = /(<script type="module">)(.*?)(<\/script>)/s

// publish writes the files in the document to folder, with the address of Slipway in place of the one
// that is printed there. A page's own script is bundled with the packages that it imports. It returns
// the names of the files.
export async function publish(document, folder, slipway) {
  const text = (await readFile(document, 'utf8')).replaceAll('http://localhost:3000', slipway)
  const files = [...text.matchAll(snippet)].map(([, page, module, content]) => ({ name: page ?? module, content }))
  await mkdir(folder, { recursive: true })
  await Promise.all(files.map(({ name, content }) => writeFile(join(folder, name), content)))
  for (const { name, content } of files.filter(({ content }) => script.test(content))) {
    const bundled = await bundle(content.match(script)[2], folder)
    await writeFile(join(folder, name), content.replace(script, (_, open, _source, close) => open + bundled + close))
  }
  return files.map(({ name }) => name)
}

async function bundle(source, folder) {
  const { outputFiles } = await build({
    stdin: { contents: source, resolveDir: folder, sourcefile: 'page.js' },
    nodePaths: [join(import.meta.dirname, 'node_modules')],
    bundle: true, format: 'esm', write: false, logLevel: 'silent', legalComments: 'none',
  })
  return outputFiles[0].text.replaceAll('</script', '<\\/script')
}
