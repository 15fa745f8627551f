import { defineConfig, loadEnv } from 'vite'

// Where the API is while the page is being written: `SLIPWAY_URL=http://localhost:3000 npm run dev`.
const { SLIPWAY_URL: api = 'http://localhost:3000' } = loadEnv('', '.', 'SLIPWAY_')
const proxied = { target: api, changeOrigin: true, headers: { origin: api } }

export default defineConfig({
  build: {
    assetsInlineLimit: 0, // what is not a file of its own would need a policy of its own
    emptyOutDir: false, // its first file is in the repository; `npm run build` takes away the others
    modulePreload: { polyfill: false },
    target: 'es2022',
  },
  resolve: {
    alias: { '@transloadit/prettier-bytes': new URL('src/size.ts', import.meta.url).pathname }, // so that Uppy writes sizes as everybody here does
    dedupe: ['preact'],
  },
  server: { proxy: { '/v1': proxied, '/uploads': proxied } },
})
