import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { type AddressInfo, connect, createServer, type Socket } from "node:net"
import { pipeline } from "node:stream"
import type { Browser, Page } from "playwright-core"
import { isInstalled, launch } from "./browser.ts"
import * as ChatProcess from "./chatProcess.ts"

// A tab in which somebody has joined, and whatever went wrong in it.
const openTab = Effect.fnUntraced(function*(browser: Browser, url: string, name: string) {
  const page = yield* Effect.promise(() => browser.newPage())
  const errors: Array<string> = []
  page.on("pageerror", (error) => errors.push(String(error)))
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text())
  })
  yield* Effect.promise(() => page.clock.install())
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

// It may be back before the button is clicked.
const comeBack = (page: Page) =>
  Effect.andThen(
    Effect.promise(() => page.evaluate(() => document.getElementById("now")!.click())),
    see(page, "#state", /^open$/)
  )

const see = (page: Page, selector: string, text: string | RegExp) =>
  Effect.promise(() => page.locator(selector, { hasText: text }).first().waitFor({ timeout: 10_000 }))

// As long as who has left may come back without a word about it.
const passAbsence = (page: Page) => Effect.promise(() => page.clock.fastForward("00:15"))

const isAlone = (page: Page) =>
  Effect.promise(() => page.locator("#people .name").nth(1).waitFor({ state: "detached", timeout: 10_000 }))

// Without the first, which tells how to join.
const notes = (page: Page) =>
  Effect.map(Effect.promise(() => page.locator("#log .note").allTextContents()), (texts) => texts.slice(1))

const people = (page: Page) => Effect.promise(() => page.locator("#people .name").allTextContents())

/** A way to the chat that can be cut, and stalled: then nothing passes any more over the connections there are. */
const makeLine = (port: string) =>
  Effect.gen(function*() {
    const sockets = new Set<Socket>()
    const server = createServer((socket) => {
      const onward = connect(Number(port), "127.0.0.1")
      for (const end of [socket, onward]) {
        sockets.add(end)
        end.on("error", () => {})
        end.on("close", () => sockets.delete(end))
      }
      pipeline(socket, onward, socket, () => {})
    })
    const listen = (at: number) =>
      Effect.callback<AddressInfo>((resume) => {
        server.listen(at, "127.0.0.1", () => resume(Effect.succeed(server.address() as AddressInfo)))
      })
    const cut = Effect.callback<void>((resume) => {
      server.close(() => resume(Effect.void))
      for (const socket of sockets) socket.destroy()
    })
    const { port: own } = yield* listen(0)
    yield* Effect.addFinalizer(() => cut)
    const stall = Effect.sync(() => {
      for (const socket of sockets) socket.pause()
    })
    return { url: `http://127.0.0.1:${own}`, stall, cut, mend: Effect.asVoid(listen(own)) }
  })

describe.skipIf(!isInstalled)("the chat in a browser", { timeout: 60_000 }, () => {
  it.live("two tabs see each other, and what they say is text", () =>
    Effect.gen(function*() {
      const chat = yield* ChatProcess.start()
      const browser = yield* launch
      const { errors, page: ada } = yield* openTab(browser, chat.url, "Ada")
      yield* say(ada, "Is anybody here?")
      yield* see(ada, "#log .said.mine", "Is anybody here?")
      const { page: grace } = yield* openTab(browser, chat.url, "Grace")

      yield* see(ada, "#log .note", "Grace joined")
      yield* see(grace, "#log .note", "You are Grace")
      assert.deepStrictEqual(yield* people(ada), ["Ada", "Grace"])
      assert.deepStrictEqual(yield* people(grace), ["Ada", "Grace"])
      yield* see(grace, "#people li", "Grace (you)")
      yield* see(grace, "#log .said:not(.mine)", "Is anybody here?")

      yield* say(ada, "Hello from <b>Ada</b>")
      yield* see(grace, "#log .said:not(.mine)", /Ada.*\d\d.*Hello from <b>Ada<\/b>/)
      yield* say(grace, "Grüße 👋")
      yield* see(ada, "#log .said:not(.mine)", /Grace.*Grüße 👋/)

      for (const page of [ada, grace]) {
        yield* see(page, "#roundTrip", /^\d+\.\d ms$/)
        yield* see(page, "#queue", /^\d+ B$/)
      }

      yield* click(grace, "Leave")
      yield* see(grace, "#state", "closed")
      assert.deepStrictEqual(yield* people(grace), [])
      yield* isAlone(ada)
      yield* passAbsence(ada)
      yield* see(ada, "#log .note", "Grace left")
      yield* click(grace, "Join")
      yield* see(grace, "#state", /^open$/)
      yield* see(ada, "#people .name", "Grace")
      assert.deepStrictEqual(yield* notes(ada), ["You are Ada", "Grace joined", "Grace left", "Grace joined"])
      yield* say(ada, "Welcome back")
      yield* see(grace, "#log .said", "Welcome back")
      const said = yield* Effect.promise(() => grace.locator("#log .said p").allTextContents())
      assert.deepStrictEqual(said, ["Is anybody here?", "Hello from <b>Ada</b>", "Grüße 👋", "Welcome back"])
      assert.deepStrictEqual(errors, [])
    }).pipe(Effect.scoped))

  it.live("a page whose connection is lost says so, comes back, and shows what was said meanwhile; the others need not know", () =>
    Effect.gen(function*() {
      const chat = yield* ChatProcess.start()
      const line = yield* makeLine(chat.port)
      const browser = yield* launch
      const { page: ada } = yield* openTab(browser, line.url, "Ada")
      const { page: grace } = yield* openTab(browser, chat.url, "Grace")
      yield* say(ada, "before")
      yield* see(grace, "#log .said", "before")

      yield* line.cut
      yield* see(ada, "#state", "waiting")
      yield* see(ada, "#countdown", /^next attempt in \d+ s$/)
      assert.isTrue(yield* Effect.promise(() => ada.locator("#people").isHidden()))
      assert.isTrue(yield* Effect.promise(() => ada.getByRole("button", { name: "Send" }).isDisabled()))
      yield* isAlone(grace)
      yield* say(grace, "meanwhile")
      yield* see(grace, "#log .said.mine", "meanwhile")

      yield* line.mend
      yield* comeBack(ada)
      yield* see(ada, "#log .said:not(.mine)", "meanwhile")
      yield* see(grace, "#people .name", "Ada")
      yield* say(grace, "after")
      yield* see(ada, "#log .said:not(.mine)", "after")
      const said = yield* Effect.promise(() => ada.locator("#log .said p").allTextContents())
      assert.deepStrictEqual(said, ["before", "meanwhile", "after"])
      yield* passAbsence(grace)
      yield* say(grace, "the end")
      yield* see(grace, "#log .said.mine", "the end")
      assert.deepStrictEqual(yield* notes(grace), ["You are Grace"])
    }).pipe(Effect.scoped))

  it.live("a page that hears nothing any more comes back over another connection", () =>
    Effect.gen(function*() {
      const chat = yield* ChatProcess.start()
      const line = yield* makeLine(chat.port)
      const browser = yield* launch
      const { page: ada } = yield* openTab(browser, line.url, "Ada")
      const states = Effect.promise(() =>
        ada.evaluate(() =>
          new Promise<ReadonlyArray<string | null>>((resolve) => {
            const state = document.getElementById("state")!
            const seen: Array<string | null> = []
            new MutationObserver((changes) => {
              for (const { addedNodes } of changes) seen.push(addedNodes[0]!.textContent)
              if (seen.at(-1) === "open") resolve(seen)
            }).observe(state, { childList: true })
          })
        )
      )
      yield* line.stall
      yield* say(ada, "Does anybody hear me?")
      const [first] = yield* states
      assert.strictEqual(first, "waiting: the connection was lost")
      // What went nowhere is still where it was written.
      yield* click(ada, "Send")
      yield* see(ada, "#log .said.mine", "Does anybody hear me?")
    }).pipe(Effect.scoped))

  it.live("pages see the server's end, and come back to the next one, which has forgotten what was said", () =>
    Effect.gen(function*() {
      const chat = yield* ChatProcess.start()
      const browser = yield* launch
      const { page: ada } = yield* openTab(browser, chat.url, "Ada")
      yield* say(ada, "before")
      yield* see(ada, "#log .said", "before")
      assert.strictEqual(yield* chat.stop("SIGINT"), 130)
      yield* see(ada, "#state", /^waiting: the server went away$|^waiting: no connection$/)
      yield* ChatProcess.start("--port", chat.port)
      yield* comeBack(ada)
      yield* see(ada, "#log .note", "Some messages are missing here")
      yield* say(ada, "after")
      yield* see(ada, "#log .said.mine", "after")
    }).pipe(Effect.scoped))
})
