import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Agent, request } from "node:http"
import { echo, start, unhandledErrors } from "./fixture.ts"
import { closeFrame, closeOf, connectRaw, frame, openingRequest, response, upgradeRaw } from "./rawPeer.ts"

type Options = Parameters<typeof openingRequest>[0]

const refused: ReadonlyArray<readonly [name: string, status: number, request: Options]> = [
  ["another method than GET (§4.2.1, item 1)", 405, { method: "PUT" }],
  ["HTTP/1.0 (§4.2.1, item 1)", 426, { version: "HTTP/1.0" }],
  ["no Host (§4.2.1, item 2)", 400, { headers: { Host: undefined } }],
  ["a repeated Host (RFC 7230, section 5.4)", 400, { headers: { Host: ["127.0.0.1", "127.0.0.1"] } }],
  ["a malformed Host", 400, { headers: { Host: "a/b" } }],
  ["no Upgrade (§4.2.1, item 3)", 426, { headers: { Upgrade: undefined } }],
  ["an upgrade to something else", 426, { headers: { Upgrade: "h2c" } }],
  ["Connection without Upgrade (§4.2.1, item 4)", 426, { headers: { Connection: "keep-alive" } }],
  ["no key (§4.2.1, item 5)", 400, { headers: { "Sec-WebSocket-Key": undefined } }],
  ["a key that is not 16 bytes", 400, { headers: { "Sec-WebSocket-Key": "c2hvcnQ=" } }],
  ["a key that is not base64", 400, { headers: { "Sec-WebSocket-Key": "!GhlIHNhbXBsZSBub25jZQ==" } }],
  ["a repeated key (§11.3.1)", 400, {
    headers: { "Sec-WebSocket-Key": ["dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=="] }
  }],
  ["no version (§4.4)", 426, { headers: { "Sec-WebSocket-Version": undefined } }],
  ["another version (§4.4)", 426, { headers: { "Sec-WebSocket-Version": "8" } }],
  ["a repeated version (§11.3.5)", 426, { headers: { "Sec-WebSocket-Version": ["13", "13"] } }],
  ["a subprotocol twice (§4.1, item 10)", 400, { headers: { "Sec-WebSocket-Protocol": ["chat", "chat"] } }],
  ["a subprotocol that is not a token", 400, { headers: { "Sec-WebSocket-Protocol": "a b" } }],
  ["malformed extensions (§9.1)", 400, { headers: { "Sec-WebSocket-Extensions": "a;;b" } }]
]

describe("an opening request is refused for", () => {
  it.live.each(refused)("%s: %s", ([, status, options]) =>
    Effect.gen(function*() {
      const { port } = yield* start(echo)
      const peer = yield* connectRaw(port)
      yield* peer.send(openingRequest(options))
      assert.strictEqual((yield* response(peer)).status, status)
      yield* upgradeRaw(port)
    }))
})

describe("what a refusal says", () => {
  it.live("plain HTTP is 426 with Upgrade: websocket, on a socket that stays usable (RFC 7231, section 6.5.15)", () =>
    Effect.gen(function*() {
      const { port } = yield* start(echo)
      const peer = yield* connectRaw(port)
      for (
        const plain of [
          "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
          "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        ]
      ) {
        yield* peer.send(plain)
        const { headers, status } = yield* response(peer)
        assert.deepStrictEqual([status, headers["upgrade"], headers["connection"]], [426, "websocket", "Upgrade"])
      }
      yield* peer.send(openingRequest())
      assert.strictEqual((yield* response(peer)).status, 101)
    }))

  it.live("another version is told 13 (RFC 6455, section 4.4)", () =>
    Effect.gen(function*() {
      const { port } = yield* start(echo)
      const peer = yield* connectRaw(port)
      yield* peer.send(openingRequest({ headers: { "Sec-WebSocket-Version": "14" } }))
      const { headers, status } = yield* response(peer)
      assert.deepStrictEqual([status, headers["sec-websocket-version"], headers["upgrade"]], [426, "13", "websocket"])
      assert.strictEqual((yield* peer.rest).length, 0)
    }))

  it.live("another method is told GET (RFC 7231, section 6.5.5)", () =>
    Effect.gen(function*() {
      const { port } = yield* start(echo)
      const peer = yield* connectRaw(port)
      yield* peer.send(openingRequest({ method: "POST" }))
      const { headers, status } = yield* response(peer)
      assert.deepStrictEqual([status, headers["allow"]], [405, "GET"])
    }))
})

describe("header abuse (RFC 6455, section 10.4)", () => {
  // The five that an opening request has are among them.
  const withHeaders = (count: number) =>
    openingRequest({ headers: Object.fromEntries(Array.from({ length: count - 5 }, (_, i) => [`X-${i}`, "y"])) })

  it.live.each([[128, 101], [129, 431], [500, 431]] as const)(
    "%s headers: %s",
    ([count, status]) =>
      Effect.gen(function*() {
        const { port } = yield* start(echo)
        const peer = yield* connectRaw(port)
        yield* peer.send(withHeaders(count))
        assert.strictEqual((yield* response(peer)).status, status)
      })
  )

  it.live("the limit is an option", () =>
    Effect.gen(function*() {
      const { port } = yield* start(echo, { maxHeaders: 6 })
      const peer = yield* connectRaw(port)
      yield* peer.send(withHeaders(7))
      assert.strictEqual((yield* response(peer)).status, 431)
      const other = yield* connectRaw(port)
      yield* other.send(withHeaders(6))
      assert.strictEqual((yield* response(other)).status, 101)
    }))

  it.live("a megabyte of headers is 431", () =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const { port } = yield* start(echo)
      const peer = yield* connectRaw(port)
      yield* Effect.forkChild(peer.send(openingRequest({ headers: { "X-Long": "x".repeat(1024 * 1024) } })))
      assert.strictEqual((yield* peer.head).slice(0, 12), "HTTP/1.1 431")
      yield* upgradeRaw(port)
      assert.deepStrictEqual(errors, [])
    }))

  it.live("names of JavaScript's own are headers like any other", () =>
    Effect.gen(function*() {
      const { port } = yield* start(echo)
      const peer = yield* connectRaw(port)
      yield* peer.send(openingRequest({ headers: { ["__proto__"]: ["a", "b"], constructor: "c", toString: "d" } }))
      assert.strictEqual((yield* response(peer)).status, 101)
    }))
})

describe("an upgrade that is pipelined behind another request", () => {
  const plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
  const bad = openingRequest({ headers: { "Sec-WebSocket-Key": "bad" } })

  it.live.each([["good", plain + openingRequest()], ["bad", plain + bad], ["third", plain + plain + openingRequest()]])(
    "ends its own socket and nothing else: %s",
    ([, requests]) =>
      Effect.gen(function*() {
        const errors = yield* unhandledErrors
        const { port } = yield* start(echo)
        const peer = yield* connectRaw(port)
        yield* peer.send(requests)
        assert.notInclude((yield* peer.rest).toString(), "101")
        yield* upgradeRaw(port)
        assert.deepStrictEqual(errors, [])
      })
  )
})

describe("bytes behind the opening request (RFC 6455, section 4.1)", () => {
  it.live("in the same packet are the first frames", () =>
    Effect.gen(function*() {
      const { port } = yield* start(echo)
      const peer = yield* connectRaw(port)
      yield* peer.send(openingRequest(), frame("text", "one"), frame("binary", "two"))
      assert.strictEqual((yield* response(peer)).status, 101)
      assert.strictEqual((yield* peer.frame).payload.toString(), "one")
      assert.strictEqual((yield* peer.frame).payload.toString(), "two")
    }))

  it.live("may be a Close, and all there is", () =>
    Effect.gen(function*() {
      const { port } = yield* start(echo)
      const peer = yield* connectRaw(port)
      yield* peer.send(openingRequest(), closeFrame(1000, "bye"))
      yield* peer.end
      assert.strictEqual((yield* response(peer)).status, 101)
      assert.deepStrictEqual(closeOf(yield* peer.frame), { code: 1000, reason: "bye" })
      assert.strictEqual((yield* peer.rest).length, 0)
    }))

  it.live("that split a frame are put together with what follows", () =>
    Effect.gen(function*() {
      const { port } = yield* start(echo)
      const bytes = frame("text", "in two parts")
      for (let split = 1; split < bytes.length; split++) {
        const peer = yield* connectRaw(port)
        yield* peer.send(openingRequest(), bytes.subarray(0, split))
        yield* peer.head
        yield* peer.send(bytes.subarray(split))
        assert.strictEqual((yield* peer.frame).payload.toString(), "in two parts")
      }
    }))
})

describe("an ordinary HTTP client", () => {
  it.live("that keeps its socket does not delay the end of the server", () =>
    Effect.gen(function*() {
      const agent = new Agent({ keepAlive: true })
      const status = yield* Effect.scoped(Effect.gen(function*() {
        const { port } = yield* start(echo)
        return yield* Effect.callback<number | undefined>((resume) => {
          const asking = request({ port, host: "127.0.0.1", agent }, (answer) => {
            answer.resume().on("end", () => resume(Effect.succeed(answer.statusCode)))
          })
          asking.end()
        })
      }))
      assert.strictEqual(status, 426)
      agent.destroy()
    }))
})
