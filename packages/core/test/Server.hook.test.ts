import { HandshakeRequest, WebSocketServer } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Option, Scope } from "effect"
import { TestClock } from "effect/testing"
import { isWaiting, settle, start } from "./fixture.ts"
import { handOver, recordLogs, serve } from "./serverFixture.ts"

const { HandshakeRejected } = HandshakeRequest
type Hook = (
  request: HandshakeRequest.HandshakeRequest
) => Effect.Effect<HandshakeRequest.Accepted<unknown>, HandshakeRequest.HandshakeRejected>

/** The response of a server with this hook, and what it logged; the server has to be alive after it. */
const answer = Effect.fnUntraced(function*(hook: Hook) {
  const recorded = recordLogs()
  const isHealthy = (request: HandshakeRequest.HandshakeRequest) => request.path === "/healthy"
  const { serving } = yield* handOver<unknown>({
    handshake: (request) => isHealthy(request) ? Effect.succeed({ data: undefined }) : hook(request)
  })
  const { ask, network, probe } = yield* Effect.provide(serve(serving), recorded.layer)
  const seen = yield* ask()
  yield* settle
  assert.lengthOf(yield* network.links, 0)
  yield* probe("/healthy")
  return { ...seen, logs: recorded.logs }
})

describe("a handshake hook that accepts (RFC 6455, section 4.2.2)", () => {
  it.effect("chooses the subprotocol, adds headers, and hands data to the handler", () =>
    Effect.gen(function*() {
      const handled = yield* Deferred.make<string>()
      const serving = WebSocketServer.serve(
        (connection, user: { readonly name: string }) =>
          Effect.andThen(Deferred.succeed(handled, user.name), connection.closed),
        {
          subprotocols: ["v1.chat"],
          handshake: ({ query }) =>
            Effect.succeed({
              subprotocol: "v2.chat",
              headers: { "Set-Cookie": "session=1", "X-Served-By": "a" },
              data: { name: query.get("name") ?? "" }
            })
        }
      )
      const { connect } = yield* serve(serving)
      const connection = yield* connect("/?name=Ada", { subprotocols: ["v1.chat", "v2.chat"] })
      assert.deepStrictEqual(connection.subprotocol, Option.some("v2.chat"))
      assert.strictEqual(connection.response.headers["set-cookie"], "session=1")
      assert.strictEqual(connection.response.headers["x-served-by"], "a")
      assert.strictEqual(yield* Deferred.await(handled), "Ada")
    }))

  it.effect("leaves the choice to the server's preference, if it makes none", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver({
        subprotocols: ["v2.chat", "v1.chat"],
        handshake: () => Effect.succeed({ data: undefined })
      })
      const { connect } = yield* serve(serving)
      const connection = yield* connect("/", { subprotocols: ["v1.chat", "v2.chat"] })
      assert.deepStrictEqual(connection.subprotocol, Option.some("v2.chat"))
      assert.deepStrictEqual((yield* accept).subprotocol, Option.some("v2.chat"))
    }))

  it.effect("cannot replace what the handshake says for itself", () =>
    Effect.gen(function*() {
      const { headers, status } = yield* answer(() =>
        Effect.succeed({
          headers: { "Sec-WebSocket-Accept": "x", "Upgrade": "h2c", "Content-Length": "5", "X-Y": "z" },
          data: undefined
        })
      )
      assert.strictEqual(status, 101)
      assert.deepStrictEqual(headers, {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "x-y": "z"
      })
    }))

  it.effect("sees method, path, query, headers, cookies, subprotocols and addresses of the request", () =>
    Effect.gen(function*() {
      const seen = yield* Deferred.make<HandshakeRequest.HandshakeRequest>()
      const { accept, serving } = yield* handOver({
        handshake: (request) => Effect.as(Deferred.succeed(seen, request), { data: undefined })
      })
      const { connect } = yield* serve(serving)
      const connecting = yield* start(Effect.result(connect("/a%20b?x=1&x=2&y=%C3%A9", {
        headers: { "Cookie": "id=7; name=Ada%20L; id=8", "X-Trace": "t" },
        subprotocols: ["v1", "v2"]
      })))
      const request = yield* Deferred.await(seen)
      assert.strictEqual(request.method, "GET")
      assert.strictEqual(request.url, "/a%20b?x=1&x=2&y=%C3%A9")
      assert.strictEqual(request.path, "/a%20b")
      assert.deepStrictEqual([...request.query], [["x", "1"], ["x", "2"], ["y", "é"]])
      assert.strictEqual(request.headers["x-trace"], "t")
      assert.deepStrictEqual({ ...request.cookies }, { id: "7", name: "Ada L" })
      assert.deepStrictEqual(request.subprotocols, ["v1", "v2"])
      assert.deepStrictEqual([request.clientAddress, request.secure, request.host, request.tls], [
        Option.some("client"),
        false,
        "server.test",
        Option.none()
      ])
      const { localAddress, peerAddress } = yield* accept
      assert.deepStrictEqual([peerAddress, localAddress], [request.peerAddress, request.localAddress])
      assert.isTrue(Option.isSome(peerAddress) && Option.isSome(localAddress))
      // The server chose none of the subprotocols, and the client cannot speak without.
      assert.strictEqual((yield* Fiber.join(connecting))._tag, "Failure")
    }))
})

describe("a handshake hook that rejects", () => {
  it.effect("decides status, headers and body, and nothing is logged", () =>
    Effect.gen(function*() {
      const rejection = new HandshakeRejected({
        status: 401,
        headers: { "WWW-Authenticate": "Bearer", "Content-Type": "application/json" },
        body: "{\"error\":\"zażółć\"}"
      })
      const seen = yield* answer(() => Effect.fail(rejection))
      assert.deepStrictEqual({ ...seen }, {
        _tag: "UpgradeRejected",
        status: 401,
        headers: { "www-authenticate": "Bearer", "content-type": "application/json" },
        body: "{\"error\":\"zażółć\"}",
        logs: []
      })
    }))
})

describe("a handshake hook that is wrong is answered 500 and logged, and the server goes on", () => {
  const mistakes: ReadonlyArray<readonly [name: string, hook: Hook]> = [
    ["it dies", () => Effect.die(new Error("no database"))],
    ["it throws", () => {
      throw new Error("no database")
    }],
    [
      "it chooses a subprotocol that was not offered (§4.2.2)",
      () => Effect.succeed({ subprotocol: "v9", data: undefined })
    ],
    [
      "its header has a line break",
      () => Effect.succeed({ headers: { "x-y": "a\r\nset-cookie: b" }, data: undefined })
    ],
    ["its header name has a space", () => Effect.succeed({ headers: { "x y": "a" }, data: undefined })],
    [
      "its rejection's header has a line break",
      () => Effect.fail(new HandshakeRejected({ status: 401, headers: { "x-y": "a\r\nset-cookie: b" } }))
    ],
    [
      "its rejection's header has a character beyond Latin-1",
      () => Effect.fail(new HandshakeRejected({ status: 401, headers: { "x-y": "世" } }))
    ],
    ["its rejection accepts", () => Effect.fail(new HandshakeRejected({ status: 101 }))],
    ["its rejection's status is none", () => Effect.fail(new HandshakeRejected({ status: 42 }))]
  ]

  it.effect.each(mistakes)("%s", ([, hook]) =>
    Effect.gen(function*() {
      const seen = yield* answer(hook)
      assert.deepStrictEqual([seen.status, seen.headers["set-cookie"]], [500, undefined])
      assert.strictEqual(seen.logs.length, 1)
      assert.isTrue(Cause.hasDies(seen.logs[0]?.cause ?? Cause.empty))
    }))
})

describe("a handshake hook that takes long", () => {
  const never = Effect.gen(function*() {
    const entered = yield* Deferred.make<void>()
    const interrupted = yield* Deferred.make<void>()
    const { serving } = yield* handOver({
      handshake: () =>
        Deferred.succeed(entered, undefined).pipe(
          Effect.andThen(Effect.never),
          Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
        )
    })
    return { entered: Deferred.await(entered), interrupted: Deferred.await(interrupted), serving }
  })

  it.effect.each([
    { options: {}, millis: 10_000 },
    { options: { handshakeTimeout: "500 millis" as const }, millis: 500 }
  ])(
    "is interrupted after the handshake timeout, and answered 503 ($millis ms)",
    ({ millis, options }) =>
      Effect.gen(function*() {
        const { interrupted, serving } = yield* never
        const { ask } = yield* serve(serving, options)
        const asking = yield* start(ask())
        yield* TestClock.adjust(millis - 1)
        assert.isTrue(yield* isWaiting(asking))
        yield* TestClock.adjust(1)
        assert.strictEqual((yield* Fiber.join(asking)).status, 503)
        yield* interrupted
      })
  )

  it.effect("is interrupted when the client goes away", () =>
    Effect.gen(function*() {
      const { entered, interrupted, serving } = yield* never
      const { ask } = yield* serve(serving)
      const asking = yield* start(ask())
      yield* entered
      yield* Fiber.interrupt(asking)
      yield* interrupted
    }))

  it.effect("is interrupted when the server is released", () =>
    Effect.gen(function*() {
      const { entered, interrupted, serving } = yield* never
      const scope = yield* Scope.make()
      const { ask } = yield* Scope.provide(serve(serving), scope)
      const asking = yield* start(Effect.exit(ask()))
      yield* entered
      yield* Scope.close(scope, Exit.void)
      yield* interrupted
      assert.isTrue(Exit.isFailure(yield* Fiber.join(asking)))
    }))
})

describe("the headers of a server", () => {
  it.effect("cannot replace what the handshake says for itself", () =>
    Effect.gen(function*() {
      const { serving } = yield* handOver()
      const { ask } = yield* serve(serving, { headers: { "Sec-WebSocket-Accept": "x", "Content-Length": "5" } })
      const { headers, status } = yield* ask()
      assert.deepStrictEqual([status, headers["content-length"]], [101, undefined])
      assert.strictEqual(headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    }))

  it.effect("are checked before anything is served", () =>
    Effect.gen(function*() {
      const { serving } = yield* handOver()
      const exit = yield* Effect.exit(serve(serving, { headers: { "x-y": "a\r\nb" } }))
      assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
    }))
})
