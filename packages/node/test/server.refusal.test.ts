import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Agent, request } from "node:http"
import { echo, start, unhandledErrors } from "./fixture.ts"
import { closeFrame, closeOf, connectRaw, frame, openingRequest, response, upgradeRaw } from "./rawPeer.ts"

type Options = Parameters<typeof openingRequest>[0]

// What is wrong with a request itself: conformance.test.ts.
const refused: ReadonlyArray<readonly [name: string, status: number, request: Options]> = [
  ["CONNECT", 405, { method: "CONNECT", target: "127.0.0.1:80" }],
  ["a target of 20 KB", 431, { target: `/${"a".repeat(20_000)}` }],
  ["a header of 20 KB", 431, { headers: { "X-A": "a".repeat(20_000) } }]
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
