import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { existsSync } from "node:fs"
import { type Browser, chromium, type Page } from "playwright-core"
import * as ChatProcess from "./chatProcess.ts"

const executablePath = "/usr/bin/chromium"
const isInstalled = existsSync(executablePath)
if (!isInstalled) console.log(`Chat.browser.test.ts is skipped: there is no ${executablePath}`)

const launch = Effect.acquireRelease(
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

// A tab in which somebody has joined, and whatever went wrong in it.
const openTab = Effect.fnUntraced(function*(browser: Browser, url: string, name: string) {
  const page = yield* Effect.promise(() => browser.newPage())
  const errors: Array<string> = []
  page.on("pageerror", (error) => errors.push(String(error)))
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text())
  })
  yield* Effect.promise(() => page.goto(url))
  yield* see(page, "#state", "not connected")
  yield* Effect.promise(() => page.getByLabel("Your name").fill(name))
  yield* click(page, "Join")
  yield* see(page, "#state", /^open$/)
  return { page, errors }
})

const click = (page: Page, name: string) => Effect.promise(() => page.getByRole("button", { name }).click())

const say = (page: Page, text: string) =>
  Effect.andThen(Effect.promise(() => page.getByLabel("Your message").fill(text)), click(page, "Send"))

const see = (page: Page, selector: string, text: string | RegExp) =>
  Effect.promise(() => page.locator(selector, { hasText: text }).first().waitFor({ timeout: 10_000 }))

const people = (page: Page) => Effect.promise(() => page.locator("#people .name").allTextContents())

describe("the chat in a browser", () => {
  it.live.skipIf(!isInstalled)("two tabs see each other, and the server's end", () =>
    Effect.gen(function*() {
      const chat = yield* ChatProcess.start
      const browser = yield* launch
      const { errors, page: ada } = yield* openTab(browser, chat.url, "Ada")
      const { page: grace } = yield* openTab(browser, chat.url, "Grace")

      yield* see(ada, "#log .note", "Grace joined")
      yield* see(grace, "#log .note", "You joined as Grace")
      assert.deepStrictEqual(yield* people(ada), ["Ada", "Grace"])
      assert.deepStrictEqual(yield* people(grace), ["Ada", "Grace"])
      yield* see(grace, "#people li", "Grace (you)")

      yield* say(ada, "Hello from <b>Ada</b>")
      yield* see(grace, "#log .said:not(.mine)", /Ada.*\d\d.*Hello from <b>Ada<\/b>/)
      yield* see(ada, "#log .said.mine", "Hello from <b>Ada</b>")
      yield* say(grace, "Grüße 👋")
      yield* see(ada, "#log .said:not(.mine)", /Grace.*Grüße 👋/)

      for (const page of [ada, grace]) {
        yield* see(page, "#roundTrip", /^\d+\.\d\d ms$/)
        yield* see(page, "#queue", /^\d+ msg, \d+ B$/)
      }

      const { page: second } = yield* openTab(browser, chat.url, "ada")
      yield* see(ada, "#log .note", "ada 2 joined")
      yield* Effect.promise(() => second.close())
      yield* see(ada, "#log .note", "ada 2 left")
      assert.deepStrictEqual(yield* people(ada), ["Ada", "Grace"])

      yield* click(grace, "Leave")
      yield* see(grace, "#state", "closed with 1000")
      yield* see(ada, "#log .note", "Grace left")
      yield* click(grace, "Join")
      yield* see(grace, "#state", /^open$/)
      yield* see(ada, "#people .name", "Grace")
      assert.deepStrictEqual(yield* people(ada), ["Ada", "Grace"])

      const [duration, code] = yield* Effect.timed(chat.stop("SIGINT"))
      assert.strictEqual(code, 130)
      assert.isBelow(Duration.toMillis(duration), 3000)
      for (const page of [ada, grace]) yield* see(page, "#state", "closed with 1001")
      assert.deepStrictEqual(yield* people(ada), [])
      assert.deepStrictEqual(errors, [])
    }).pipe(Effect.scoped), 60_000)
})
