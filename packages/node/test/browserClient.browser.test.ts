import { HandshakeRequest, WebSocketServer } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer, Stream } from "effect"
import { readFileSync } from "node:fs"
import { stripTypeScriptTypes } from "node:module"
import * as Net from "node:net"
import { fileURLToPath } from "node:url"
import type { Page } from "playwright-core"
import * as Browser from "./browser.ts"
import * as Example from "./exampleProcess.ts"
import { handOver, start } from "./fixture.ts"
import type { Name } from "./page/scenarios.ts"

const KiB = 1024
const source = fileURLToPath(new URL("page/scenarios.ts", import.meta.url))

/** A page that has our modules, and in which the scenarios can be run. */
class ClientPage extends Context.Service<ClientPage, Page>()("test/ClientPage") {
  static readonly layer = Layer.effect(
    ClientPage,
    Effect.gen(function*() {
      const example = yield* Example.start("page/main.ts", "0")
      const browser = yield* Browser.launch
      const page = yield* Effect.promise(() => browser.newPage())
      yield* Effect.promise(() => page.goto(example.url))
      const content = stripTypeScriptTypes(readFileSync(source, "utf8"))
      yield* Effect.promise(() => page.addScriptTag({ type: "module", content }))
      yield* Effect.promise(() => page.waitForFunction(() => "run" in globalThis))
      return page
    })
  )
}

/** Runs a scenario in the page. */
const run = (name: Name, url: string) =>
  ClientPage.use((page) =>
    Effect.promise(() => page.evaluate(([name, url]) => globalThis.run(name, url), [name, url] as const))
  ).pipe(Effect.map((result): unknown => JSON.parse(result)))

/** Runs a scenario against a server of the test, whose end of the connection is handed over. */
const meet = Effect.fnUntraced(function*(name: Name) {
  const { accept, serving } = yield* handOver({ subprotocols: ["v1.echo"] })
  const { url } = yield* start(serving, { origin: { allow: "any" }, deflate: true })
  const running = yield* Effect.forkChild(run(name, url))
  return { peer: yield* accept, result: Fiber.join(running) }
})

describe.skipIf(!Browser.isInstalled)("the client in Chromium", () => {
  it.live("examples/page: a page without a build step", () =>
    Effect.gen(function*() {
      const example = yield* Example.start("page/main.ts", "0")
      const browser = yield* Browser.launch
      const page = yield* Effect.promise(() => browser.newPage())
      const errors: Array<string> = []
      page.on("pageerror", (error) => errors.push(String(error)))
      page.on("console", (message) => errors.push(message.text()))
      yield* Effect.promise(() => page.goto(example.url))
      const see = (selector: string, text: string) =>
        Effect.promise(() => page.locator(selector, { hasText: text }).waitFor({ timeout: 20_000 }))
      for (const said of ["hello", "from", "a page"]) yield* see("#answers p", `you said: ${said}`)
      yield* Effect.promise(() => page.getByRole("button", { name: "Leave" }).click())
      yield* see("#states p", "4000 enough")
      const states = yield* Effect.promise(() => page.locator("#states p").allTextContents())
      assert.deepStrictEqual(states, ["Open", "Closing", "Closed", "4000 enough"])
      assert.deepStrictEqual(errors, [])
      assert.strictEqual(yield* example.stop("SIGINT"), 130)
    }), { timeout: 60_000 })

  it.layer(ClientPage.layer, { timeout: 60_000, excludeTestServices: true })((it) => {
    it.effect("messages travel both ways; the page answers pings", () =>
      Effect.gen(function*() {
        const { peer, result } = yield* meet("echo")
        const messages = Array.from({ length: 200 }, (_, i) =>
          i % 3 === 0 ? Uint8Array.of(i, 0, 255) : `${i}: ${"Grüße 👋 ".repeat(i * 5)}`)
        yield* Effect.forkChild(peer.sendAll(messages))
        for (const message of messages) {
          assert.deepStrictEqual(yield* peer.receive, message)
        }
        yield* peer.ping
        yield* peer.close(1000, "done")
        assert.deepStrictEqual(yield* result, {
          subprotocol: "v1.echo",
          extensions: ["permessage-deflate"],
          capabilities: [],
          event: { code: 1000, reason: "done", wasClean: true, initiator: "Remote" }
        })
      }))

    it.effect("while the browser holds enough, sends are suspended; nothing is lost", () =>
      Effect.gen(function*() {
        const { peer, result } = yield* meet("upload")
        const received = yield* peer.messages.pipe(Stream.runFold(() => 0, (total, message) => total + message.length))
        assert.strictEqual(received, 300 * 64 * KiB)
        const { accepted, event, isSuspended, queuedBytes } = (yield* result) as Record<string, any>
        assert.isTrue(isSuspended)
        assert.isAtMost(queuedBytes, 256 * KiB)
        assert.isBelow(accepted * 64 * KiB, 600 * KiB)
        assert.deepStrictEqual(event, { code: 1000, reason: "", wasClean: true, initiator: "Local" })
      }))

    it.effect("a flood that nobody reads closes the connection with 4008", () =>
      Effect.gen(function*() {
        const { peer, result } = yield* meet("flood")
        yield* Effect.forkChild(Effect.exit(Effect.forever(peer.send("x".repeat(8 * KiB)))))
        assert.strictEqual((yield* peer.closed).code, 4008)
        assert.deepStrictEqual(yield* result, {
          end: "ReceiveOverflow",
          event: { code: 4008, reason: "slow reader", wasClean: true, initiator: "Local" }
        })
      }))

    const ends = [
      [1000, "an ordinary end"],
      [1001, "an ordinary end"],
      [1011, "PeerClosed"],
      [4000, "PeerClosed"]
    ] as const
    it.effect.each(ends)("the server closes with %d: %s", ([code, end]) =>
      Effect.gen(function*() {
        const { peer, result } = yield* meet("listen")
        yield* peer.close(code, "Grüße")
        const event = { code, reason: "Grüße", wasClean: true, initiator: "Remote" }
        assert.deepStrictEqual(yield* result, { end, event })
      }))

    it.effect("a server that is lost", () =>
      Effect.gen(function*() {
        const { peer, result } = yield* meet("listen")
        yield* peer.abort
        const event = { code: 1006, reason: "", wasClean: false, initiator: "Remote" }
        assert.deepStrictEqual(yield* result, { end: "ConnectionLost", event })
      }))

    it.effect("a close with 1011 arrives as 4011, behind what was sent", () =>
      Effect.gen(function*() {
        const { peer, result } = yield* meet("close")
        assert.strictEqual(yield* peer.receive, "last words")
        assert.deepInclude({ ...yield* peer.closed }, { code: 4011, reason: "Grüße", wasClean: true })
        const event = { code: 4011, reason: "Grüße", wasClean: true, initiator: "Local" }
        assert.deepStrictEqual(yield* result, { end: "an ordinary end", event })
      }))

    it.effect("the end of the scope, and an abort, are told to the server", () =>
      Effect.gen(function*() {
        for (const [name, code] of [["leave", 1000], ["abort", 4006]] as const) {
          const { peer, result } = yield* meet(name)
          assert.strictEqual((yield* peer.closed).code, code)
          yield* result
        }
      }))

    it.effect("a rejected handshake, and an address where nobody listens, are Undisclosed", () =>
      Effect.gen(function*() {
        const { url } = yield* start(
          WebSocketServer.serve((connection) => connection.closed, {
            handshake: (_: HandshakeRequest.HandshakeRequest) =>
              Effect.fail(new HandshakeRequest.HandshakeRejected({ status: 401 }))
          }),
          { origin: { allow: "any" } }
        )
        assert.strictEqual(yield* run("fail", url), "Undisclosed")
        assert.strictEqual(yield* run("fail", "ws://127.0.0.1:9"), "Undisclosed")
      }))

    it.effect("interrupted while it is connecting, it leaves no socket", () =>
      Effect.gen(function*() {
        const closed = yield* Deferred.make<void>()
        // It accepts the socket, and never answers.
        const server = Net.createServer((socket) => {
          socket.on("error", () => {}).on("close", () => Deferred.doneUnsafe(closed, Effect.void)).resume()
        })
        yield* Effect.acquireRelease(
          Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
          () => Effect.sync(() => server.close())
        )
        const { port } = server.address() as Net.AddressInfo
        assert.strictEqual(yield* run("interrupt", `ws://127.0.0.1:${port}`), true)
        yield* Deferred.await(closed)
      }))
  })
})
