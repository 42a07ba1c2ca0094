import { HandshakeRequest } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect } from "effect"
import { handOver, recordLogs, start } from "./fixture.ts"
import { connectRaw, openingRequest, response, upgradeRaw } from "./rawPeer.ts"

const { HandshakeRejected } = HandshakeRequest
type Hook = (
  request: HandshakeRequest.HandshakeRequest
) => Effect.Effect<HandshakeRequest.Accepted<unknown>, HandshakeRequest.HandshakeRejected>

/** The response of a server with this hook, and what it logged; the server has to be alive after it. */
const answer = Effect.fnUntraced(function*(hook: Hook) {
  const recorded = recordLogs()
  return yield* Effect.gen(function*() {
    const isHealthy = (request: HandshakeRequest.HandshakeRequest) => request.path === "/healthy"
    const { serving } = yield* handOver<unknown>({
      handshake: (request) => isHealthy(request) ? Effect.succeed({ data: undefined }) : hook(request)
    })
    const { port } = yield* start(serving)
    const peer = yield* connectRaw(port)
    yield* peer.send(openingRequest())
    const seen = yield* response(peer)
    const rest = (yield* peer.rest).toString()
    yield* upgradeRaw(port, "/healthy")
    return { ...seen, rest, logs: recorded.logs }
  }).pipe(Effect.provide(recorded.layer))
})

describe("a handshake hook that accepts (RFC 6455, section 4.2.2)", () => {
  it.live("sends a header once for each of its values, and so does one that rejects", () =>
    Effect.gen(function*() {
      const headers = { "Set-Cookie": ["a=1", "b=2; Path=/, x"] }
      const { accept, serving } = yield* handOver<void>({
        handshake: ({ path }) =>
          path === "/in"
            ? Effect.succeed({ data: undefined, headers })
            : new HandshakeRejected({ status: 403, headers })
      })
      const { port } = yield* start(serving)
      for (const path of ["/in", "/out"]) {
        const peer = yield* connectRaw(port)
        yield* peer.send(openingRequest({ target: path }))
        const lines = (yield* peer.head).split("\r\n")
        assert.deepStrictEqual(lines.filter((line) => line.startsWith("set-cookie")), [
          "set-cookie: a=1",
          "set-cookie: b=2; Path=/, x"
        ])
      }
      assert.strictEqual((yield* accept).response.headers["set-cookie"], "a=1, b=2; Path=/, x")
    }))
})

describe("a handshake hook that rejects", () => {
  it.live("decides status, headers and body, and the socket ends behind them", () =>
    Effect.gen(function*() {
      const rejection = new HandshakeRejected({
        status: 401,
        headers: { "WWW-Authenticate": "Bearer", "Content-Type": "application/json" },
        body: "{\"error\":\"zażółć\"}"
      })
      const seen = yield* answer(() => Effect.fail(rejection))
      assert.strictEqual(seen.status, 401)
      assert.strictEqual(seen.headers["www-authenticate"], "Bearer")
      assert.strictEqual(seen.headers["content-type"], "application/json")
      assert.strictEqual(seen.body, "{\"error\":\"zażółć\"}")
      assert.deepStrictEqual([seen.rest, seen.logs.length], ["", 0])
    }))

  it.live("replaces the default content type, and does not add to it", () =>
    Effect.gen(function*() {
      const rejection = new HandshakeRejected({ status: 403, headers: { "Content-Type": "text/html" } })
      const { serving } = yield* handOver({ handshake: () => Effect.fail(rejection) })
      const { port } = yield* start(serving)
      const peer = yield* connectRaw(port)
      yield* peer.send(openingRequest())
      assert.deepStrictEqual((yield* peer.head).match(/content-type: .*/gi), ["content-type: text/html"])
    }))

  it.live("cannot make the body longer or shorter than it is", () =>
    Effect.gen(function*() {
      const seen = yield* answer(() =>
        Effect.fail(
          new HandshakeRejected({
            status: 400,
            headers: { "Content-Length": "1", "Transfer-Encoding": "chunked" },
            body: "all of it"
          })
        )
      )
      assert.strictEqual(seen.headers["content-length"], "9")
      assert.strictEqual(seen.headers["transfer-encoding"], undefined)
      assert.deepStrictEqual([seen.body, seen.rest], ["all of it", ""])
    }))
})

describe("the headers of a server", () => {
  const headers = { "Strict-Transport-Security": "max-age=1", "X-Served-By": "a", "Set-Cookie": ["a=1", "b=2"] }

  it.live("are in each answer to an upgrade request, below those of the hook", () =>
    Effect.gen(function*() {
      const { serving } = yield* handOver({
        handshake: ({ query }) =>
          query.has("in")
            ? Effect.succeed({ data: undefined, headers: { "x-served-by": "hook" } })
            : new HandshakeRejected({ status: 403, headers: { "X-Served-By": "hook" } })
      })
      const { port } = yield* start(serving, { headers })
      const own = ["strict-transport-security: max-age=1", "set-cookie: a=1", "set-cookie: b=2"]
      for (
        const [options, status, servedBy] of [
          [{ target: "/?in" }, 101, "hook"],
          [{}, 403, "hook"],
          [{ headers: { "Sec-WebSocket-Version": "8" } }, 426, "a"],
          [{ headers: { Origin: "http://elsewhere.example" } }, 403, "a"]
        ] as const
      ) {
        const peer = yield* connectRaw(port)
        yield* peer.send(openingRequest(options))
        const [statusLine = "", ...lines] = (yield* peer.head).split("\r\n")
        assert.strictEqual(statusLine.split(" ")[1], String(status))
        assert.deepStrictEqual(
          lines.filter((line) => /^(strict|set-cookie|x-served)/i.test(line)).toSorted(),
          [...own, `x-served-by: ${servedBy}`].toSorted()
        )
      }
    }))
})

describe("a handshake hook that takes long", () => {
  it.live.each(["reset", "end"] as const)(
    "is interrupted when the client goes away (%s)",
    (way) =>
      Effect.gen(function*() {
        const entered = yield* Deferred.make<void>()
        const interrupted = yield* Deferred.make<void>()
        const { serving } = yield* handOver({
          handshake: () =>
            Deferred.succeed(entered, undefined).pipe(
              Effect.andThen(Effect.never),
              Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
            )
        })
        const { port } = yield* start(serving)
        const peer = yield* connectRaw(port)
        yield* peer.send(openingRequest())
        yield* Deferred.await(entered)
        yield* peer[way]
        yield* Deferred.await(interrupted)
        yield* peer.rest
      })
  )
})
