import { Effect } from "effect"
import { existsSync } from "node:fs"
import { chromium } from "playwright-core"

const executablePath = "/usr/bin/chromium"

export const isInstalled = existsSync(executablePath)
if (!isInstalled) console.log(`Tests in a browser are skipped: there is no ${executablePath}`)

/** A browser, closed with the scope. */
export const launch = Effect.acquireRelease(
  Effect.promise(() =>
    chromium.launch({
      executablePath,
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync"
      ]
    })
  ),
  (browser) => Effect.promise(() => browser.close())
)
