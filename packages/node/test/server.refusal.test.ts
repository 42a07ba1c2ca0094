import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Agent, request } from "node:http"
import { echo, start, unhandledErrors } from "./fixture.ts"
import { closeFrame, closeOf, connectRaw, frame, openingRequest, response, upgradeRaw } from "./rawPeer.ts"

type Options = Parameters<typeof openingRequest>[0]

const refused: ReadonlyArray<readonly [name: string, status: number, request: Options]> = [
  ["another method than GET (§4.2.1, item 1)", 405, { method: "PUT" }],
  ["HEAD", 405, { method: "HEAD" }],
  ["CONNECT", 405, { method: "CONNECT", target: "127.0.0.1:80" }],
  ["a method that is none", 400, { method: "SPEAK" }],
  ["HTTP/1.0 (§4.2.1, item 1)", 426, { version: "HTTP/1.0" }],
  ["a version of HTTP that there is not", 400, { version: "HTTP/3.7" }],
  ["a target that is no URL", 400, { target: "http://[::1/" }],
  ["a target that is no path", 400, { target: "echo" }],
  ["the target of OPTIONS", 400, { target: "*" }],
  ["a target with a space", 400, { target: "/a b" }],
  ["a fragment in the target (§3)", 400, { target: "/a#b" }],
  ["a target of 20 KB", 431, { target: `/${"a".repeat(20_000)}` }],
  ["no Host (§4.2.1, item 2)", 400, { headers: { Host: undefined } }],
  ["a repeated Host (RFC 7230, section 5.4)", 400, { headers: { Host: ["127.0.0.1", "127.0.0.1"] } }],
  ["a malformed Host", 400, { headers: { Host: "a/b" } }],
  ["an empty Host", 400, { headers: { Host: "" } }],
  ["no Upgrade (§4.2.1, item 3)", 426, { headers: { Upgrade: undefined } }],
  ["an upgrade to something else", 426, { headers: { Upgrade: "h2c" } }],
  ["an upgrade to a version of it", 426, { headers: { Upgrade: "websocket/13" } }],
  ["Connection without Upgrade (§4.2.1, item 4)", 426, { headers: { Connection: "keep-alive" } }],
  ["no key (§4.2.1, item 5)", 400, { headers: { "Sec-WebSocket-Key": undefined } }],
  ["an empty key", 400, { headers: { "Sec-WebSocket-Key": "" } }],
  ["a key that is not 16 bytes", 400, { headers: { "Sec-WebSocket-Key": "c2hvcnQ=" } }],
  ["a key of 15 bytes", 400, { headers: { "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25j" } }],
  ["a key of 17 bytes", 400, { headers: { "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZWU=" } }],
  ["a key that is not base64", 400, { headers: { "Sec-WebSocket-Key": "!GhlIHNhbXBsZSBub25jZQ==" } }],
  ["a repeated key (§11.3.1)", 400, {
    headers: { "Sec-WebSocket-Key": ["dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=="] }
  }],
  ["no version (§4.4)", 426, { headers: { "Sec-WebSocket-Version": undefined } }],
  ["another version (§4.4)", 426, { headers: { "Sec-WebSocket-Version": "8" } }],
  ["a list of versions", 426, { headers: { "Sec-WebSocket-Version": "13, 8" } }],
  ["a version written otherwise", 426, { headers: { "Sec-WebSocket-Version": "013" } }],
  ["a repeated version (§11.3.5)", 426, { headers: { "Sec-WebSocket-Version": ["13", "13"] } }],
  ["a subprotocol twice (§4.1, item 10)", 400, { headers: { "Sec-WebSocket-Protocol": ["chat", "chat"] } }],
  ["a subprotocol that is not a token", 400, { headers: { "Sec-WebSocket-Protocol": "a b" } }],
  ["no subprotocol, in a header for some", 400, { headers: { "Sec-WebSocket-Protocol": "" } }],
  ["malformed extensions (§9.1)", 400, { headers: { "Sec-WebSocket-Extensions": "a;;b" } }],
  ["no extension, in a header for some", 400, { headers: { "Sec-WebSocket-Extensions": "," } }],
  ["an empty Origin", 403, { headers: { Origin: "" } }],
  ["two origins", 403, { headers: { Origin: ["http://127.0.0.1", "http://127.0.0.1"] } }],
  ["a body (RFC 7230, section 3.3)", 400, { headers: { "Content-Length": "5" } }],
  ["a body in chunks", 400, { headers: { "Transfer-Encoding": "chunked" } }],
  ["a body of two lengths", 400, { headers: { "Content-Length": ["5", "6"] } }],
  ["a body of no length", 400, { headers: { "Content-Length": "five" } }],
  ["a zero byte in a header (RFC 7230, section 3.2)", 400, { headers: { "X-A": "a\0b" } }],
  ["a lone carriage return in a header", 400, { headers: { "X-A": "a\rb" } }],
  ["a folded header (RFC 7230, section 3.2.4)", 400, { headers: { "X-A": "a\r\n b" } }],
  ["a space before the colon of a header", 400, { headers: { "X-A ": "a" } }],
  ["a header without a name", 400, { headers: { "": "a" } }],
  ["a header of 20 KB", 431, { headers: { "X-A": "a".repeat(20_000) } }]
]

const accepted: ReadonlyArray<readonly [name: string, request: Options]> = [
  ["names in any case (RFC 7230, section 3.2)", {
    headers: { "Upgrade": undefined, "uPGRADE": "WebSocket", "Connection": "uPGRADE" }
  }],
  ["websocket among others (§4.2.1, item 3)", { headers: { Upgrade: "h2c, websocket" } }],
  ["Upgrade among others (§4.2.1, item 4)", { headers: { Connection: ["keep-alive", "Upgrade"] } }],
  ["white space around values", { headers: { "Sec-WebSocket-Key": "  dGhlIHNhbXBsZSBub25jZQ==\t" } }],
  ["subprotocols in several lines (§11.3.4)", { headers: { "Sec-WebSocket-Protocol": ["a", "b"] } }],
  ["extensions that nobody knows, in several lines (§9.1)", {
    headers: { "Sec-WebSocket-Extensions": ["a; x=1", "b"] }
  }],
  ["a header beyond ASCII (RFC 7230, section 3.2.4)", { headers: { "X-A": "\u00e9" } }],
  ["an empty body", { headers: { "Content-Length": "0" } }],
  ["a target with scheme and host (RFC 7230, section 5.3.2)", { target: "http://127.0.0.1/" }],
  ["a target with two slashes", { target: "//a" }]
]

describe("an opening request is refused for", () => {
  it.live.each(refused)("%s: %s", ([, status, options]) =>
    Effect.gen(function*() {
      const { port } = yield* start(echo)
      const peer = yield* connectRaw(port)
      yield* peer.send(openingRequest(options))
      assert.strictEqual((yield* peer.head).split(" ")[1], String(status))
      yield* upgradeRaw(port)
    }))
})

describe("an opening request may have", () => {
  it.live.each(accepted)("%s", ([, options]) =>
    Effect.gen(function*() {
      const { port } = yield* start(echo)
      const peer = yield* connectRaw(port)
      yield* peer.send(openingRequest(options))
      assert.strictEqual((yield* response(peer)).status, 101)
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
})

describe("header abuse (RFC 6455, section 10.4)", () => {
  // The five that an opening request has are among them.
  const withHeaders = (count: number) =>
    openingRequest({ headers: Object.fromEntries(Array.from({ length: count - 5 }, (_, i) => [`X-${i}`, "y"])) })

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

  it.live("may be compressed, if that is agreed on (RFC 7692)", () =>
    Effect.gen(function*() {
      const { port } = yield* start(echo, { deflate: true })
      const peer = yield* connectRaw(port)
      yield* peer.send(
        openingRequest({ headers: { "Sec-WebSocket-Extensions": "permessage-deflate" } }),
        frame("text", Buffer.from("f248cdc9c90700", "hex"), { rsv: 4 })
      )
      assert.strictEqual((yield* response(peer)).status, 101)
      assert.strictEqual((yield* peer.frame).payload.toString(), "Hello")
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
