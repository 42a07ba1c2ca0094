import { HandshakeRequest, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { TestNetwork, WebSocketProbe } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Option, type Scope, Stream, Tracer } from "effect"
import { TestClock } from "effect/testing"
import { settle, start } from "./fixture.ts"

type Services = TestNetwork.TestNetwork | WebSocketServer.WebSocketServer | WebSocketClient.WebSocketClient

const hook = Effect.fnUntraced(function*({ query }: HandshakeRequest.HandshakeRequest) {
  const status = Number(query.get("reject"))
  if (status > 0) return yield* new HandshakeRequest.HandshakeRejected({ status })
  if (query.has("die")) return yield* Effect.die("a mistake")
  if (query.has("wait")) return yield* Effect.never
  return { data: yield* Effect.succeed("inside").pipe(Effect.withSpan("hook")) }
})

const Echo = WebSocketServer.serve(
  (connection) =>
    Stream.runForEach(connection.messages, (message) => connection.send(message).pipe(Effect.withSpan("echo"))),
  { path: "/echo", handshake: hook }
)

/** Runs a test on a network whose spans are collected, in the order in which they began. */
const traced = <A, E>(
  test: (spans: ReadonlyArray<Tracer.NativeSpan>) => Effect.Effect<A, E, Services | Scope.Scope>,
  serving: Layer.Layer<never, never, WebSocketServer.WebSocketServer> = Echo
) => {
  const spans: Array<Tracer.NativeSpan> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  return test(spans).pipe(
    Effect.provide(Layer.provideMerge(serving, TestNetwork.layer)),
    Effect.provideService(Tracer.Tracer, tracer)
  )
}

const named = (spans: ReadonlyArray<Tracer.NativeSpan>, name: string, kind?: Tracer.SpanKind) => {
  const [span, ...others] = spans.filter((span) => span.name === name && (kind === undefined || span.kind === kind))
  assert.deepStrictEqual(others, [])
  return span ?? assert.fail(`${name} is not among ${spans.map(({ name }) => name).join(", ")}`)
}

const parentIdOf = (span: Tracer.Span) => Option.getOrUndefined(span.parent)?.spanId
const attributesOf = (span: Tracer.Span) => Object.fromEntries(span.attributes)
const exitOf = ({ status }: Tracer.Span) => status._tag === "Ended" ? status.exit : undefined
const succeeded = (span: Tracer.Span) => {
  const exit = exitOf(span)
  return exit !== undefined && Exit.isSuccess(exit)
}

describe("spans", () => {
  it.effect("lead from the client's connect to what the server's handler does, in one trace", () =>
    traced((spans) =>
      Effect.gen(function*() {
        yield* Effect.scoped(Effect.gen(function*() {
          const connection = yield* WebSocketClient.connect("ws://localhost/echo?token=secret")
          yield* connection.send("hello")
          yield* connection.receive
          assert.isTrue(succeeded(named(spans, "websocket.connect")))
          assert.isTrue(succeeded(named(spans, "websocket.handshake")))
          assert.isUndefined(exitOf(named(spans, "websocket.connection", "client")))
          assert.isUndefined(exitOf(named(spans, "websocket.connection", "server")))
          yield* connection.close(4000, "bye")
        }))
        yield* settle
        assert.strictEqual(new Set(spans.map(({ traceId }) => traceId)).size, 1)
        const connect = named(spans, "websocket.connect", "client")
        const handshake = named(spans, "websocket.handshake", "server")
        const life = named(spans, "websocket.connection", "server")
        const clientLife = named(spans, "websocket.connection", "client")
        assert.strictEqual(parentIdOf(handshake), connect.spanId)
        assert.strictEqual(parentIdOf(named(spans, "hook")), handshake.spanId)
        assert.strictEqual(parentIdOf(life), handshake.spanId)
        assert.strictEqual(parentIdOf(named(spans, "echo")), life.spanId)
        assert.strictEqual(parentIdOf(clientLife), connect.spanId)
        assert.deepStrictEqual(attributesOf(connect), {
          "server.address": "localhost",
          "server.port": 80,
          "url.path": "/echo"
        })
        assert.deepStrictEqual(attributesOf(handshake), {
          "http.request.method": "GET",
          "url.path": "/echo",
          "client.address": "client",
          "network.peer.address": "client",
          "network.peer.port": 50_001,
          "http.response.status_code": 101
        })
        assert.deepStrictEqual(attributesOf(life), {
          "url.path": "/echo",
          "websocket.close.code": 4000,
          "websocket.close.clean": true,
          "websocket.close.initiator": "Remote"
        })
        assert.deepInclude(attributesOf(clientLife), {
          "websocket.close.code": 4000,
          "websocket.close.initiator": "Local"
        })
        assert.isTrue(succeeded(clientLife))
      })
    ))

  it.effect("of a server follow the traceparent of the request", () =>
    traced((spans) =>
      Effect.gen(function*() {
        const traceId = "0af7651916cd43dd8448eb211c80319c"
        const headers = { traceparent: `00-${traceId}-b7ad6b7169203331-01` }
        const probe = yield* WebSocketProbe.connect("ws://localhost/echo", { headers })
        yield* probe.close()
        yield* settle
        const handshake = named(spans, "websocket.handshake")
        assert.deepStrictEqual([handshake.traceId, parentIdOf(handshake)], [traceId, "b7ad6b7169203331"])
        assert.strictEqual(named(spans, "websocket.connection").traceId, traceId)
      })
    ))

  it.effect("begin a trace where the traceparent is malformed or missing", () =>
    traced((spans) =>
      Effect.gen(function*() {
        for (const headers of [{ traceparent: `00-${"0".repeat(32)}-nonsense-01` }, {}] as const) {
          const probe = yield* WebSocketProbe.connect("ws://localhost/echo", { headers })
          yield* probe.close()
        }
        const handshakes = spans.filter(({ name }) => name === "websocket.handshake")
        assert.deepStrictEqual(handshakes.map(parentIdOf), [undefined, undefined])
        assert.notStrictEqual(handshakes[0]!.traceId, handshakes[1]!.traceId)
      })
    ))

  it.effect("tell the status of a rejection, which is an error of the server from 500 on", () =>
    traced((spans) =>
      Effect.gen(function*() {
        for (const query of ["reject=401", "reject=503", "die"]) {
          yield* Effect.flip(WebSocketClient.connect(`ws://localhost/echo?${query}`))
        }
        const handshakes = spans.filter(({ name }) => name === "websocket.handshake")
        assert.deepStrictEqual(
          handshakes.map((span) => [span.attributes.get("http.response.status_code"), succeeded(span)]),
          [[401, true], [503, false], [500, false]]
        )
        const connects = spans.filter(({ name }) => name === "websocket.connect")
        assert.deepStrictEqual(connects.map(succeeded), [false, false, false])
        assert.notInclude(spans.map(({ name }) => name), "websocket.connection")
      })
    ))

  it.effect("end when connecting is interrupted, and when the connection is lost", () =>
    traced((spans) =>
      Effect.gen(function*() {
        const connecting = yield* start(WebSocketClient.connect("ws://localhost/echo?wait"))
        yield* settle
        yield* Fiber.interrupt(connecting)
        yield* settle
        for (const name of ["websocket.connect", "websocket.handshake"]) {
          const exit = exitOf(named(spans, name))
          assert.isTrue(exit !== undefined && Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause), name)
        }
        const network = yield* TestNetwork.TestNetwork
        const connection = yield* WebSocketClient.connect("ws://localhost/echo")
        yield* (yield* network.linkOf(connection)).reset
        yield* connection.closed
        yield* settle
        for (const kind of ["client", "server"] as const) {
          const span = named(spans, "websocket.connection", kind)
          assert.isFalse(succeeded(span))
          assert.strictEqual(span.attributes.get("websocket.close.code"), 1006)
        }
      })
    ))

  it.effect("last as long as what they are about, on the clock", () => {
    const opened = Deferred.makeUnsafe<void>()
    return traced(
      (spans) =>
        Effect.gen(function*() {
          const probe = yield* WebSocketProbe.connect("ws://localhost")
          yield* Deferred.await(opened)
          yield* TestClock.adjust("10 seconds")
          yield* probe.close()
          yield* settle
          const { status } = named(spans, "websocket.connection")
          assert.strictEqual(status._tag === "Ended" && status.endTime - status.startTime, 10_000_000_000n)
        }),
      WebSocketServer.serve((connection) =>
        Effect.andThen(Deferred.succeed(opened, undefined), Stream.runDrain(connection.messages))
      )
    )
  })

  it.effect("are not made where no tracer shows them, and no traceparent is sent", () =>
    Effect.gen(function*() {
      const seen = Deferred.makeUnsafe<readonly [HandshakeRequest.HandshakeRequest, Option.Option<Tracer.AnySpan>]>()
      const serving = WebSocketServer.serve(() => Effect.void, {
        handshake: Effect.fnUntraced(function*(request: HandshakeRequest.HandshakeRequest) {
          yield* Deferred.succeed(seen, [request, yield* Effect.option(Effect.currentParentSpan)])
          return { data: undefined }
        })
      })
      yield* Effect.scoped(WebSocketClient.connect("ws://localhost")).pipe(
        Effect.provide(Layer.provideMerge(serving, TestNetwork.layer))
      )
      const [request, span] = yield* Deferred.await(seen)
      assert.notProperty(request.headers, "traceparent")
      assert.deepStrictEqual(span, Option.none())
    }))
})
