// A browser for a script that browser.Run runs.
import { chromium } from 'playwright-core'

// launch starts a Chromium that ends with this process, and with the test that runs it.
export async function launch() {
  process.stdin.on('end', () => process.exit(1)).resume().unref()
  return chromium.launch({ executablePath: process.env.CHROMIUM })
}
