import { ConnectionMetrics } from "@effect-ws/core"
import type * as WebSocketClient from "@effect-ws/core/WebSocketClient"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Logger, Metric, Option, References, Scope, Stream, Tracer } from "effect"
import { TestClock } from "effect/testing"
import { connect, FakeWebSocket, makeClient, url } from "./fakeWebSocket.ts"
import { reasonOf, settle, start } from "./fixture.ts"

describe("connecting with the platform's WebSocket", () => {
  it.effect("asks for the URL and the subprotocols, and tells what was agreed on", () =>
    Effect.gen(function*() {
      const client = makeClient()
      const connecting = yield* start(client.connect(new URL(url), { subprotocols: ["a", "b"] }))
      const [socket] = client.sockets
      assert.deepInclude(socket, { url, subprotocols: ["a", "b"], binaryType: "arraybuffer" })
      socket!.open("b", "permessage-deflate; client_max_window_bits=10")
      const connection = yield* Fiber.join(connecting)
      assert.strictEqual(connection.role, "client")
      assert.deepStrictEqual(connection.subprotocol, Option.some("b"))
      assert.deepStrictEqual(connection.extensions, [
        { name: "permessage-deflate", parameters: [["client_max_window_bits", "10"]] }
      ])
      assert.deepStrictEqual(connection.request, { url: "/path?query", headers: {} })
      assert.isTrue(Option.isNone(connection.peerAddress) && Option.isNone(connection.localAddress))
      assert.strictEqual(yield* connection.state, "Open")
      yield* connection.abort
    }))

  it.effect("what comes with the opening, before the connection is there, is received", () =>
    Effect.gen(function*() {
      const client = makeClient()
      const connecting = yield* start(client.connect(url))
      client.sockets[0]!.open()
      client.sockets[0]!.receive("early", "bird")
      client.sockets[0]!.closed(1000)
      const connection = yield* Fiber.join(connecting)
      assert.strictEqual(yield* connection.receive, "early")
      assert.strictEqual(yield* connection.receive, "bird")
      assert.strictEqual((yield* connection.closed).code, 1000)
    }))

  it.effect("a flood before the connection is there closes it", () =>
    Effect.gen(function*() {
      const client = makeClient({ maxUnreadBytes: 100 })
      const connecting = yield* start(client.connect(url))
      const [socket] = client.sockets
      socket!.open()
      socket!.receive("first", "x".repeat(100))
      const connection = yield* Fiber.join(connecting)
      yield* settle
      assert.deepStrictEqual(socket!.calls, ["close 4008 slow reader"])
      socket!.closed(4008)
      assert.strictEqual(yield* connection.receive, "first")
      assert.strictEqual(yield* reasonOf(Stream.runDrain(connection.messages)), "ReceiveOverflow")
    }))

  it.effect("a failure is Undisclosed: an error event carries nothing", () =>
    Effect.gen(function*() {
      const client = makeClient()
      const connecting = yield* start(Effect.flip(client.connect(url)))
      client.sockets[0]!.fail()
      const error = yield* Fiber.join(connecting)
      assert.deepInclude(error.reason, { _tag: "Undisclosed", cause: "the platform does not tell why" })
      assert.strictEqual(error.url, url)
    }))

  it.effect("what the class throws is InvalidRequest", () =>
    Effect.gen(function*() {
      const client = makeClient({
        webSocket: class extends FakeWebSocket {
          constructor(url: string, subprotocols: ReadonlyArray<string>) {
            super(url, subprotocols)
            throw new DOMException("mixed content", "SecurityError")
          }
        }
      })
      const { reason } = yield* Effect.flip(client.connect(url))
      assert.deepInclude(reason, { _tag: "InvalidRequest", detail: "SecurityError: mixed content" })
    }))

  const refused: Record<string, [string, WebSocketClient.ConnectOptions, object]> = {
    "headers": [url, { headers: { authorization: "x" } }, { _tag: "Unsupported", feature: "headers" }],
    "a heartbeat": [url, { heartbeat: { interval: 1 } }, { _tag: "Unsupported", feature: "heartbeat" }],
    "a wish for compression": [url, { deflate: true }, { _tag: "Unsupported", feature: "deflate" }],
    "redirects to follow": [url, { maxRedirects: 1 }, { _tag: "Unsupported", feature: "maxRedirects" }],
    "credentials": [url, { basicAuth: true }, { _tag: "Unsupported", feature: "basicAuth" }],
    "a subprotocol that is not a token": [url, { subprotocols: ["a b"] }, { _tag: "InvalidRequest" }],
    "another scheme": ["https://example.org", {}, { _tag: "InvalidUrl" }],
    "a Unix socket": ["ws+unix:///run/app.sock", {}, { _tag: "InvalidUrl" }]
  }
  it.effect.each(Object.entries(refused))(
    "%s is refused before a socket is made",
    ([, [url, options, expected]]) =>
      Effect.gen(function*() {
        const client = makeClient()
        const { reason } = yield* Effect.flip(client.connect(url, options))
        assert.deepInclude({ ...reason }, expected)
        assert.lengthOf(client.sockets, 0)
      })
  )

  it.effect("an option that asks for what the platform does anyway is accepted", () =>
    Effect.gen(function*() {
      const { connection } = yield* connect({
        heartbeat: false,
        deflate: false,
        maxRedirects: 0,
        basicAuth: false,
        maxFragments: 1
      })
      assert.strictEqual(yield* connection.state, "Open")
    }))

  it.effect.each(["", "other"])(
    "§4.1: a server that chooses %o from what was offered is refused",
    (chosen) =>
      Effect.gen(function*() {
        const client = makeClient()
        const connecting = yield* start(reasonOf(client.connect(url, { subprotocols: ["a"] })))
        client.sockets[0]!.open(chosen)
        assert.strictEqual(yield* Fiber.join(connecting), "BadUpgrade")
        assert.deepStrictEqual(client.sockets[0]!.calls, ["close 4006"])
      })
  )

  it.effect("the connect timeout closes the socket", () =>
    Effect.gen(function*() {
      const client = makeClient()
      const connecting = yield* start(reasonOf(client.connect(url, { connectTimeout: "3 seconds" })))
      yield* TestClock.adjust("2999 millis")
      assert.deepStrictEqual(client.sockets[0]!.calls, [])
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* Fiber.join(connecting), "ConnectTimeout")
      assert.deepStrictEqual(client.sockets[0]!.calls, ["close 4006"])
    }))

  it.effect("interrupted before it is open, it leaves no socket", () =>
    Effect.gen(function*() {
      const client = makeClient()
      const connecting = yield* start(client.connect(url))
      yield* Fiber.interrupt(connecting)
      assert.deepStrictEqual(client.sockets[0]!.calls, ["close 4006"])
      // Nothing is left that would mind what comes of it.
      yield* settle
      assert.strictEqual(client.sockets[0]!.readyState, 3)
    }))

  it.effect("interrupted at any moment after it is open, it leaves no socket", () =>
    Effect.gen(function*() {
      for (let moment = 0; moment < 8; moment++) {
        const client = makeClient()
        const scope = yield* Scope.make()
        const connecting = yield* start(Scope.provide(client.connect(url), scope))
        const socket = client.sockets[0]!
        socket.open()
        for (let i = 0; i < moment; i++) yield* Effect.yieldNow
        const exit = yield* start(Fiber.interrupt(connecting).pipe(Effect.andThen(Scope.close(scope, Exit.void))))
        yield* settle
        assert.match(socket.calls.join(), /^close (4006|1000)$/, `after ${moment} turns`)
        socket.closed(1000)
        yield* Fiber.join(exit)
      }
    }))
})

describe("what the platform cannot do", () => {
  it.effect("is missing in the capabilities, and fails with Unsupported", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect()
      assert.deepStrictEqual([...connection.capabilities], [])
      const calls = [
        ["ControlFrames", connection.ping],
        ["ControlFrames", connection.sendPing()],
        ["ControlFrames", connection.sendPong(new Uint8Array(200))],
        ["Fragments", connection.sendStream(Stream.make("a", "b"))]
      ] as const
      for (const [feature, call] of calls) {
        const { reason } = yield* Effect.flip(Effect.asVoid(call))
        assert.deepInclude({ ...reason }, { _tag: "Unsupported", feature })
      }
      yield* connection.send("goes on")
      yield* settle
      assert.deepStrictEqual(socket.calls, ["goes on"])
      const controls = yield* start(Stream.runCollect(connection.controls))
      yield* start(connection.close())
      socket.closed(1000)
      assert.deepStrictEqual(yield* Fiber.join(controls), [])
    }))
})

describe("what can be observed of the platform's WebSocket", () => {
  it.effect("spans are made, though the trace cannot be passed on", () =>
    Effect.gen(function*() {
      const spans: Array<Tracer.NativeSpan> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      const { connection, socket } = yield* connect().pipe(Effect.provideService(Tracer.Tracer, tracer))
      socket.closed(1000)
      yield* connection.closed
      yield* settle
      assert.deepStrictEqual(
        spans.map(({ name, status }) => [name, status._tag]),
        [["websocket.connect", "Ended"], ["websocket.connection", "Ended"]]
      )
    }))

  it.effect("metrics count messages, the outcomes of handshakes and the ends", () =>
    Effect.gen(function*() {
      const client = makeClient()
      const opening = yield* start(client.connect(url))
      client.sockets[0]!.open()
      const connection = yield* Fiber.join(opening)
      const failing = yield* start(Effect.exit(client.connect(url)))
      client.sockets[1]!.fail()
      yield* Fiber.join(failing)
      yield* connection.sendAll(["a", "b"])
      client.sockets[0]!.receive("c")
      yield* connection.receive
      client.sockets[0]!.closed(4000)
      yield* connection.closed
      const counted = (yield* Metric.snapshot).flatMap(({ attributes, id, state }) =>
        "count" in state && state.count !== 0 ? [[id, Object.values(attributes ?? {}).join(" "), state.count]] : []
      )
      assert.sameDeepMembers(counted.filter(([id]) => id !== "websocket_bytes_total"), [
        ["websocket_handshakes_total", "client accepted", 1],
        ["websocket_handshakes_total", "client Undisclosed", 1],
        ["websocket_messages_total", "client sent", 2],
        ["websocket_messages_total", "client received", 1],
        ["websocket_closes_total", "client 4xxx", 1]
      ])
    }).pipe(Effect.provide(ConnectionMetrics.layer), Effect.provideService(Metric.MetricRegistry, new Map())))

  it.effect("the debug log shows frames, and changes nothing about what can be done", () =>
    Effect.gen(function*() {
      const lines: Array<unknown> = []
      const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
      const { connection, socket } = yield* connect({ debug: true }).pipe(
        Effect.provide(Logger.layer([logger])),
        Effect.provideService(References.MinimumLogLevel, "Debug")
      )
      assert.strictEqual(connection.capabilities.size, 0)
      yield* connection.send("out")
      yield* settle
      socket.receive("in")
      yield* settle
      assert.deepStrictEqual(lines, [
        "WebSocket connection opened",
        "WebSocket frame sent",
        "WebSocket frame received"
      ])
    }))
})
