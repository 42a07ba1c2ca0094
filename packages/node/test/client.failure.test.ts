import { WebSocketClient } from "@effect-ws/core"
import { NodeWebSocketClient } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { spawn } from "node:child_process"
import { connectRaw, listenRaw, type RawPeer } from "./rawPeer.ts"

const withClient = Effect.provide(NodeWebSocketClient.layer)

/** Why connecting to this URL fails. */
const failure = (url: string, options?: WebSocketClient.ConnectOptions) =>
  WebSocketClient.connect(url, options).pipe(
    Effect.scoped,
    Effect.flip,
    Effect.tap((error) => Effect.sync(() => assert.strictEqual(error.url, url))),
    Effect.map((error) => error.reason),
    withClient
  )

/** Why connecting to a server that does this fails; the socket has to be gone after it. */
const failureOf = Effect.fnUntraced(function*(
  serve: (peer: RawPeer) => Effect.Effect<unknown>,
  options?: WebSocketClient.ConnectOptions
) {
  const listening = yield* listenRaw
  const failing = yield* Effect.forkChild(failure(listening.url, options))
  const peer = yield* listening.accept
  const serving = yield* Effect.forkChild(serve(peer))
  const reason = yield* Fiber.join(failing)
  yield* peer.rest
  yield* Fiber.interrupt(serving)
  return reason
}, Effect.scoped)

const connectTimeout = "100 millis"

describe("a connection that is not established", () => {
  it.live("nobody listens: ConnectionRefused", () =>
    Effect.gen(function*() {
      const { port } = yield* Effect.scoped(listenRaw)
      assert.strictEqual((yield* failure(`ws://127.0.0.1:${port}`))._tag, "ConnectionRefused")
      // A name with several addresses, all of which refuse.
      assert.strictEqual((yield* failure(`ws://localhost:${port}`))._tag, "ConnectionRefused")
    }))

  it.live("the host has no address: HostNotFound", () =>
    Effect.gen(function*() {
      // No name server needs to be asked: a label has at most 63 characters.
      const host = `${"a".repeat(64)}.invalid`
      const reason = yield* failure(`ws://${host}`)
      assert.strictEqual(reason._tag === "HostNotFound" && reason.host, host)
    }))

  it.live.each<readonly [name: string, serve: (peer: RawPeer) => Effect.Effect<unknown>]>([
    ["ends the connection", (peer) => Effect.andThen(Effect.ignore(peer.head), peer.end)],
    ["resets the connection", (peer) => Effect.andThen(Effect.ignore(peer.head), peer.reset)],
    ["resets it before the request has arrived", (peer) => peer.reset],
    [
      "ends the connection in the middle of the response",
      (peer) => Effect.andThen(peer.send("HTTP/1.1 101 Switching Pro"), peer.end)
    ],
    [
      "resets the connection in the middle of the response",
      (peer) => Effect.andThen(peer.send("HTTP/1.1 101 Switching Protocols\r\nUpgra"), peer.reset)
    ]
  ])("the server %s: NetworkFailure", ([, serve]) =>
    Effect.gen(function*() {
      assert.strictEqual((yield* failureOf(serve))._tag, "NetworkFailure")
    }))
})

describe("the connect timeout covers a server that", () => {
  it.live.each<readonly [name: string, serve: (peer: RawPeer) => Effect.Effect<unknown>]>([
    ["accepts and says nothing", () => Effect.never],
    [
      "dribbles its response",
      (peer) => Effect.forEach(`HTTP/1.1 101 ${"a".repeat(1000)}`, (byte) => Effect.delay(peer.send(byte), "5 millis"))
    ],
    [
      "sends informational responses without end",
      (peer) => Effect.forever(Effect.delay(peer.send("HTTP/1.1 103 Early Hints\r\n\r\n"), "5 millis"))
    ],
    [
      "rejects with a body that does not come",
      (peer) => Effect.andThen(peer.send("HTTP/1.1 403 No\r\nContent-Length: 10\r\n\r\n"), Effect.never)
    ],
    ["rejects with a body that does not end", (peer) =>
      Effect.andThen(
        peer.send("HTTP/1.1 403 No\r\n\r\n"),
        Effect.forever(Effect.delay(peer.send("dribble"), "5 millis"))
      )]
  ])("%s", ([, serve]) =>
    Effect.gen(function*() {
      const reason = yield* failureOf(serve, { connectTimeout })
      assert.strictEqual(reason._tag, "ConnectTimeout")
    }))
})

describe.skipIf(process.platform !== "linux")("the connect timeout covers TCP", () => {
  it.live("when the connection itself is not accepted", () =>
    Effect.gen(function*() {
      // A process that listens and stands still: Linux completes one connection more than its backlog, and no other.
      const program = `require("net").createServer().listen({ port: 0, host: "127.0.0.1", backlog: 1 }, function() {
        require("fs").writeSync(1, this.address().port + "\\n")
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
      })`
      const child = yield* Effect.acquireRelease(
        Effect.sync(() => spawn(process.execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"] })),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      const port = yield* Effect.callback<number>((resume) => {
        child.stdout.once("data", (line) => resume(Effect.succeed(Number(line))))
      })
      yield* Effect.all([connectRaw(port), connectRaw(port)])
      assert.strictEqual((yield* failure(`ws://127.0.0.1:${port}`, { connectTimeout }))._tag, "ConnectTimeout")
    }))
})

describe("a server that answers with HTTP (RFC 6455, section 4.1): UpgradeRejected with", () => {
  const rejection = Effect.fnUntraced(function*(bytes: string, end?: "end" | "reset") {
    const reason = yield* failureOf((peer) =>
      Effect.andThen(peer.send(bytes), end === undefined ? Effect.void : peer[end])
    )
    if (reason._tag !== "UpgradeRejected") return assert.fail(reason._tag)
    const { body, headers, status } = reason
    return { body, headers, status }
  })

  it.live("status, headers and body", () =>
    Effect.gen(function*() {
      const head = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nWWW-Authenticate: Bearer\r\n"
      assert.deepStrictEqual(yield* rejection(`${head}Content-Length: 6\r\n\r\nM\u00c3\u00bcll!`), {
        status: 401,
        headers: { "www-authenticate": "Basic, Bearer", "content-length": "6" },
        body: "Müll!"
      })
    }))

  it.live("no body", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* rejection("HTTP/1.1 204 No Content\r\n\r\n"), {
        status: 204,
        headers: {},
        body: ""
      })
    }))

  it.live.each([200, 302, 407, 426, 500, 503])("status %s", (status) =>
    Effect.gen(function*() {
      const seen = yield* rejection(`HTTP/1.1 ${status} X\r\nLocation: ws://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n`)
      assert.strictEqual(seen.status, status)
    }))

  it.live("a body in chunks", () =>
    Effect.gen(function*() {
      const head = "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n"
      assert.strictEqual((yield* rejection(`${head}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n`)).body, "abcde")
    }))

  it.live.each(["end", "reset"] as const)(
    "what came of a body before the connection broke (%s)",
    (way) =>
      Effect.gen(function*() {
        const bytes = "HTTP/1.1 403 No\r\nContent-Length: 10\r\n\r\nabc"
        const reason = yield* failureOf((peer) => Effect.andThen(peer.send(bytes), peer[way]))
        // A reset may overtake what was sent before it.
        if (way === "reset" && reason._tag === "NetworkFailure") return
        assert.strictEqual(reason._tag === "UpgradeRejected" && reason.body, "abc")
      })
  )

  it.live("the first 64 KiB of a huge body", () =>
    Effect.gen(function*() {
      const seen = yield* rejection(`HTTP/1.1 403 No\r\nContent-Length: 10000000\r\n\r\n${"x".repeat(1_000_000)}`)
      assert.strictEqual(seen.body, "x".repeat(64 * 1024))
    }))

  it.live("the first 64 KiB of an endless body", () =>
    Effect.gen(function*() {
      const chunk = "x".repeat(1000)
      const reason = yield* failureOf((peer) =>
        Effect.andThen(peer.send("HTTP/1.1 403 No\r\n\r\n"), Effect.forever(peer.send(chunk)))
      )
      assert.strictEqual(reason._tag === "UpgradeRejected" && reason.body.length, 64 * 1024)
    }))
})

describe("a request that Node does not make", () => {
  it.live.each<readonly [name: string, options: WebSocketClient.ConnectOptions]>([
    ["a header name that is no token", { headers: { "a b": "c" } }],
    ["an empty header name", { headers: { "": "c" } }],
    ["a line break in a header", { headers: { "x-y": "a\r\nx-z: b" } }],
    ["a header beyond Latin-1", { headers: { "x-y": "世" } }]
  ])("%s: InvalidRequest (RFC 6455, section 4.1)", ([, options]) =>
    Effect.gen(function*() {
      const reason = yield* failure("ws://127.0.0.1:1", options)
      assert.strictEqual(reason._tag, "InvalidRequest")
    }))
})
