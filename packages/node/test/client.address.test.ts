import { WebSocketClient } from "@effect-ws/core"
import type { NodeWebSocketClient } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import type { LookupOptions } from "node:dns"
import { certificates } from "./certificates.ts"
import { echo, handOver, start } from "./fixture.ts"
import { startHttpProxy, withClient } from "./proxies.ts"
import { connectRaw, listenRaw } from "./rawPeer.ts"

type Lookup = NonNullable<NodeWebSocketClient.Options["lookup"]>

const reasonOf = (url: string, options?: WebSocketClient.ConnectOptions) =>
  WebSocketClient.connect(url, options).pipe(Effect.scoped, Effect.flip, Effect.map(({ reason }) => reason))

const talk = Effect.fnUntraced(function*(url: string) {
  const connection = yield* WebSocketClient.connect(url)
  yield* connection.send("hello")
  assert.strictEqual(yield* connection.receive, "hello")
  return connection
}, Effect.scoped)

/** Knows one address for all names, and keeps what it is asked. */
const looksUp = (address: string) => {
  const asked: Array<readonly [host: string, options: LookupOptions]> = []
  const family = address.includes(":") ? 6 : 4
  const lookup: Lookup = (host, options, callback) => {
    asked.push([host, options])
    if (options.all === true) callback(null, [{ address, family }])
    else callback(null, address, family)
  }
  return { asked, lookup }
}

describe("a client's own lookup", () => {
  it.live("finds the server, which is asked for by its name all the same", () =>
    Effect.gen(function*() {
      const { port } = yield* start(echo)
      const { asked, lookup } = looksUp("127.0.0.1")
      const { request } = yield* talk(`ws://server.example:${port}`).pipe(withClient({ lookup }))
      assert.strictEqual(request.headers["host"], `server.example:${port}`)
      assert.deepStrictEqual(asked.map(([host]) => host), ["server.example"])
    }))

  it.live("does not change whom the certificate has to be for", () =>
    Effect.gen(function*() {
      const { authority, elsewhere, server } = yield* certificates
      const { lookup } = looksUp("127.0.0.1")
      const options = { lookup, tls: { ca: authority.cert } }
      const right = yield* start(echo, { tls: elsewhere })
      yield* talk(`wss://other.example:${right.port}`).pipe(withClient(options))
      const wrong = yield* start(echo, { tls: server })
      const reason = yield* reasonOf(`wss://other.example:${wrong.port}`).pipe(withClient(options))
      assert.strictEqual(reason._tag, "CertificateRejected")
    }))

  it.live("finds a proxy too", () =>
    Effect.gen(function*() {
      const { url } = yield* start(echo)
      const { port } = yield* startHttpProxy()
      const { asked, lookup } = looksUp("127.0.0.1")
      yield* talk(url).pipe(withClient({ lookup, proxy: `http://proxy.example:${port}` }))
      assert.deepStrictEqual(asked.map(([host]) => host), ["proxy.example"])
    }))

  it.live("is not asked for addresses", () =>
    Effect.gen(function*() {
      const { url } = yield* start(echo)
      const { asked, lookup } = looksUp("192.0.2.1")
      yield* talk(url).pipe(withClient({ lookup }))
      assert.deepStrictEqual(asked, [])
    }))

  it.live("is told the family", () =>
    Effect.gen(function*() {
      const { port } = yield* start(echo, { host: "::1" })
      const { asked, lookup } = looksUp("::1")
      yield* talk(`ws://server.example:${port}`).pipe(withClient({ lookup, family: 6 }))
      assert.deepStrictEqual(asked.map(([, { family }]) => family), [6])
    }))

  it.live.each<readonly [name: string, code: string | undefined, reason: string]>([
    ["no such name", "ENOTFOUND", "HostNotFound"],
    ["the name server is away", "EAI_AGAIN", "HostNotFound"],
    ["something else", undefined, "NetworkFailure"]
  ])("may fail: %s", ([message, code, tag]) =>
    Effect.gen(function*() {
      const lookup: Lookup = (_host, _options, callback) => callback(Object.assign(new Error(message), { code }), [])
      assert.strictEqual((yield* reasonOf("ws://server.example").pipe(withClient({ lookup })))._tag, tag)
    }))

  it.live("may find what is no address: NetworkFailure", () =>
    Effect.gen(function*() {
      const { lookup } = looksUp("nonsense")
      const reason = yield* reasonOf("ws://server.example").pipe(withClient({ lookup }))
      assert.strictEqual(reason._tag, "NetworkFailure")
    }))

  it.live("is waited for within the connect timeout", () =>
    Effect.gen(function*() {
      const connecting = reasonOf("ws://server.example", { connectTimeout: "50 millis" })
      assert.strictEqual((yield* connecting.pipe(withClient({ lookup: () => {} })))._tag, "ConnectTimeout")
    }))

  it.live("finds the server for nobody when connecting was interrupted", () =>
    Effect.gen(function*() {
      const { accept, port } = yield* listenRaw
      const asked = yield* Deferred.make<Parameters<Lookup>[2]>()
      const lookup: Lookup = (_host, _options, callback) => void Deferred.doneUnsafe(asked, Effect.succeed(callback))
      const connecting = yield* Effect.forkChild(reasonOf(`ws://server.example:${port}`).pipe(withClient({ lookup })))
      const answer = yield* Deferred.await(asked)
      yield* Fiber.interrupt(connecting)
      // Node lets go of the socket in its next tick.
      yield* Effect.yieldNow
      answer(null, [{ address: "127.0.0.1", family: 4 }])
      // Whoever comes next is the first.
      const { socket } = yield* connectRaw(port)
      assert.strictEqual((yield* accept).socket.remotePort, socket.localPort)
    }))
})

describe("a client with an address of its own", () => {
  const isLinux = process.platform === "linux"

  it.live.skipIf(!isLinux)("connects from it, to a proxy too", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver()
      const { url } = yield* start(serving)
      const connecting = WebSocketClient.connect(url).pipe(withClient({ localAddress: "127.0.0.2" }))
      yield* Effect.forkScoped(Effect.andThen(connecting, Effect.never))
      const peerAddress = (yield* accept).peerAddress
      assert.isTrue(
        peerAddress._tag === "Some" && peerAddress.value._tag === "Tcp" && peerAddress.value.host === "127.0.0.2"
      )
      for (const scheme of ["http", "socks5"]) {
        const { accept, port } = yield* listenRaw
        yield* Effect.forkChild(
          reasonOf(url).pipe(withClient({ localAddress: "127.0.0.2", proxy: `${scheme}://127.0.0.1:${port}` }))
        )
        assert.strictEqual((yield* accept).socket.remoteAddress, "127.0.0.2")
      }
    }))

  it.live("that is not one of this machine: NetworkFailure", () =>
    Effect.gen(function*() {
      const { url } = yield* start(echo)
      const reason = yield* reasonOf(url).pipe(withClient({ localAddress: "192.0.2.1" }))
      assert.strictEqual(reason._tag, "NetworkFailure")
    }))

  it.live.each([false, "http://127.0.0.1:1", "socks5://127.0.0.1:1"] as const)(
    "that is none at all: InvalidRequest (proxy: %s)",
    (proxy) =>
      Effect.gen(function*() {
        const reason = yield* reasonOf("ws://127.0.0.1:1").pipe(withClient({ localAddress: "nonsense", proxy }))
        assert.strictEqual(reason._tag, "InvalidRequest")
      })
  )
})
