import { ConnectionMetrics, HandshakeRequest, type Transport, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { TestNetwork, WebSocketProbe } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Metric, type Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { settle, start } from "./fixture.ts"

const Echo = WebSocketServer.serve(
  (connection) => Stream.runForEach(connection.messages, (message) => connection.send(message)),
  { path: "/" }
)

type Services = TestNetwork.TestNetwork | WebSocketServer.WebSocketServer | WebSocketClient.WebSocketClient

/** Runs a test on a network of its own, with metrics of its own. */
const measured = <A, E>(
  test: Effect.Effect<A, E, Services | Scope.Scope>,
  options: Parameters<typeof TestNetwork.layerWith>[0] & {
    readonly serving?: Layer.Layer<never, never, WebSocketServer.WebSocketServer>
    readonly metrics?: Layer.Layer<never>
  } = {}
) =>
  test.pipe(
    Effect.provide(
      (options.serving ?? Echo).pipe(
        Layer.provideMerge(TestNetwork.layerWith(options)),
        Layer.provide(options.metrics ?? ConnectionMetrics.layer)
      )
    ),
    Effect.provideService(Metric.MetricRegistry, new Map())
  )

/** The value of every series that begins with `prefix`, without its own `websocket_` and its role. */
const read = (role: "server" | "client", prefix = "") =>
  Effect.map(Metric.snapshot, (snapshots) =>
    Object.fromEntries(snapshots.flatMap(({ attributes = {}, id, state }) => {
      const { role: its, ...others } = attributes
      const name = [id.replace("websocket_", ""), ...Object.values(others)].join(" ")
      if (its !== role || !name.startsWith(prefix)) return []
      return [[name, "count" in state ? state.count : "value" in state ? state.value : undefined]]
    })))

describe("connection metrics", () => {
  it.effect("count connections, handshakes, messages and bytes on both sides", () =>
    measured(Effect.gen(function*() {
      yield* Effect.scoped(Effect.gen(function*() {
        const connection = yield* WebSocketClient.connect("ws://localhost")
        yield* connection.sendAll(["a", "bc", "def"])
        yield* Effect.replicateEffect(connection.receive, 3)
        // Each frame has a header of two bytes and, from a client, a mask key of four.
        assert.deepStrictEqual(yield* read("client"), {
          "connections": 1,
          "handshakes_total accepted": 1,
          "messages_total sent": 3,
          "messages_total received": 3,
          "bytes_total sent": 3 * 6 + 6,
          "bytes_total received": 3 * 2 + 6,
          "queued_messages": 0,
          "queued_bytes": 0,
          "compression_bytes_total received plain": 0,
          "compression_bytes_total received compressed": 0,
          "compression_ratio received": 1,
          "compression_bytes_total sent plain": 0,
          "compression_bytes_total sent compressed": 0,
          "compression_ratio sent": 1,
          "pings_lost_total": 0
        })
        assert.deepInclude(yield* read("server"), {
          "connections": 1,
          "handshakes_total accepted": 1,
          "messages_total sent": 3,
          "messages_total received": 3,
          "bytes_total sent": 3 * 2 + 6,
          "bytes_total received": 3 * 6 + 6
        })
      }))
      yield* settle
      for (const role of ["client", "server"] as const) {
        assert.deepInclude(yield* read(role), { "connections": 0, "closes_total 1000": 1 })
      }
    })))

  it.effect("count each handshake that a server rejects, by reason", () => {
    const hook = Effect.fnUntraced(function*({ query }: HandshakeRequest.HandshakeRequest) {
      if (query.has("rejected")) return yield* new HandshakeRequest.HandshakeRejected({ status: 401 })
      if (query.has("failed")) return yield* Effect.die("a mistake")
      if (query.has("timeout")) return yield* Effect.never
      return { data: undefined }
    })
    const serving = WebSocketServer.serve(() => Effect.void, { path: "/", handshake: hook })
    return measured(
      Effect.gen(function*() {
        const rejected = (target: string, headers = {}) =>
          Effect.flip(WebSocketClient.connect(`ws://localhost${target}`, { headers, connectTimeout: "20 seconds" }))
        yield* rejected("/nowhere")
        yield* rejected("/", { origin: "https://elsewhere.example" })
        yield* rejected("/", { "x-1": "1", "x-2": "2", "x-3": "3", "x-4": "4" })
        yield* rejected("/?rejected")
        yield* rejected("/?rejected")
        yield* rejected("/?failed")
        const timeout = yield* start(rejected("/?timeout"))
        yield* TestClock.adjust("10 seconds")
        yield* Fiber.join(timeout)
        assert.deepStrictEqual(yield* read("server", "handshakes"), {
          "handshakes_total unserved": 1,
          "handshakes_total origin": 1,
          "handshakes_total malformed": 1,
          "handshakes_total rejected": 2,
          "handshakes_total failed": 1,
          "handshakes_total timeout": 1
        })
        assert.deepStrictEqual(yield* read("client", "handshakes"), { "handshakes_total UpgradeRejected": 7 })
      }),
      { serving, server: { maxHeaders: 8 } }
    )
  })

  it.effect("count a client that goes away during its handshake, and the reasons why connecting failed", () => {
    const serving = WebSocketServer.serve(() => Effect.void, { path: "/", handshake: () => Effect.never })
    return measured(
      Effect.gen(function*() {
        const fails = (url: string) => Effect.flip(WebSocketClient.connect(url, { connectTimeout: "1 second" }))
        yield* fails("http://localhost")
        yield* fails("ws://elsewhere")
        const connecting = yield* start(fails("ws://localhost"))
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(connecting)
        assert.deepStrictEqual(yield* read("client", "handshakes"), {
          "handshakes_total InvalidUrl": 1,
          "handshakes_total HostNotFound": 1,
          "handshakes_total ConnectTimeout": 1
        })
        assert.deepStrictEqual(yield* read("server", "handshakes"), { "handshakes_total lost": 1 })
      }),
      { serving, server: { host: "localhost" } }
    )
  })

  it.effect("tell what waits in the queues of all connections", () => {
    const serving = WebSocketServer.serve((connection) =>
      Effect.andThen(connection.sendAll(["first", "second", "third"]), connection.closed)
    )
    return measured(
      Effect.gen(function*() {
        const stalled = Effect.tap(WebSocketProbe.connect("ws://localhost"), (probe) => probe.demand(0))
        const probes = yield* Effect.replicateEffect(stalled, 2)
        yield* settle
        // All of it is in one write, which the link has not taken yet.
        const { queued_bytes, queued_messages } = yield* read("server", "queued")
        assert.deepStrictEqual([queued_messages, queued_bytes], [6, 2 * (6 + 5 + 6 + 5)])
        for (const probe of probes) {
          yield* probe.demand(3)
          yield* probe.expectText("first")
        }
        yield* settle
        assert.deepStrictEqual(yield* read("server", "queued"), { queued_messages: 0, queued_bytes: 0 })
        for (const probe of probes) yield* probe.reset
      }),
      { serving, link: { bufferBytes: 0 } }
    )
  })

  it.effect("count lost pings, and closes by code", () => {
    const done = Deferred.makeUnsafe<void>()
    const serving = WebSocketServer.serve((connection) =>
      Effect.andThen(Effect.ignore(Stream.runDrain(connection.messages)), Deferred.await(done))
    )
    return measured(
      Effect.gen(function*() {
        for (const code of [1000, 1001, 1008, 3000, 3999, 4000, 4999]) {
          const probe = yield* WebSocketProbe.connect("ws://localhost")
          yield* probe.close(code)
        }
        const breaking = yield* WebSocketProbe.connect("ws://localhost")
        yield* breaking.sendBytes(Uint8Array.of(0xff))
        yield* breaking.expectClose(1002)
        yield* breaking.end
        const silent = yield* WebSocketProbe.connect("ws://localhost")
        yield* TestClock.adjust("20 seconds")
        yield* silent.expectPing
        yield* TestClock.adjust("20 seconds")
        yield* settle
        assert.deepStrictEqual(yield* read("server", "closes"), {
          "closes_total 1000": 1,
          "closes_total 1001": 1,
          "closes_total 1008": 1,
          "closes_total 3xxx": 2,
          "closes_total 4xxx": 2,
          "closes_total 1002": 1,
          "closes_total 1006": 1
        })
        assert.deepInclude(yield* read("server"), { "pings_lost_total": 1, "connections": 0 })
        yield* Deferred.succeed(done, undefined)
      }),
      { serving }
    )
  })

  it.effect("are not there without the layer, and leave with it", () => {
    const connect = Effect.scoped(WebSocketClient.connect("ws://localhost"))
    return Effect.gen(function*() {
      const registry = yield* Metric.MetricRegistry
      yield* connect.pipe(Effect.provide(Layer.provideMerge(Echo, TestNetwork.layer)))
      assert.strictEqual(registry.size, 0)
      yield* Effect.gen(function*() {
        yield* connect
        assert.isAbove(registry.size, 0)
      }).pipe(
        Effect.provide(
          Echo.pipe(Layer.provideMerge(TestNetwork.layer), Layer.provide(ConnectionMetrics.layer))
        )
      )
      assert.strictEqual(registry.size, 0)
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  })

  it.effect("do not come back with the end of a connection that outlives the layer", () =>
    Effect.gen(function*() {
      const registry = yield* Metric.MetricRegistry
      const connection = yield* WebSocketClient.connect("ws://localhost").pipe(
        Effect.provide(
          Layer.provide(TestNetwork.layerClient, ConnectionMetrics.layer)
        )
      )
      assert.strictEqual(registry.size, 0)
      yield* connection.close()
      assert.strictEqual(registry.size, 0)
    }).pipe(
      Effect.provide(Layer.provideMerge(Echo, TestNetwork.layer)),
      Effect.provideService(Metric.MetricRegistry, new Map())
    ))

  it.effect("of a connection whose transport does not start count its end", () =>
    measured(
      Effect.gen(function*() {
        const broken = (transport: Transport.Transport): Transport.Transport => ({
          peerAddress: transport.peerAddress,
          localAddress: transport.localAddress,
          capabilities: transport.capabilities,
          start: () => {
            throw new Error("broken")
          },
          pause: () => transport.pause(),
          resume: () => transport.resume(),
          write: (chunks) => transport.write(chunks),
          end: () => transport.end(),
          destroy: () => transport.destroy()
        })
        const exit = yield* Effect.exit(Effect.scoped(WebSocketClient.connect("ws://localhost", { wrap: broken })))
        assert.isTrue(Exit.hasDies(exit))
        assert.deepStrictEqual(yield* read("client", "connections"), { connections: 0 })
      })
    ))

  it.effect("of several servers are told apart by attributes", () => {
    const server = (name: string) =>
      Layer.fresh(Echo).pipe(
        Layer.provide(TestNetwork.layerServer({ host: `${name}.example` })),
        Layer.provide(Layer.fresh(ConnectionMetrics.layer)),
        Layer.provide(Layer.succeed(Metric.CurrentMetricAttributes, { server: name }))
      )
    return Effect.gen(function*() {
      yield* WebSocketClient.connect("ws://a.example")
      yield* WebSocketClient.connect("ws://b.example")
      yield* WebSocketClient.connect("ws://b.example")
      assert.deepStrictEqual(yield* read("server", "connections"), { "connections a": 1, "connections b": 2 })
    }).pipe(
      Effect.provide(
        Layer.mergeAll(server("a"), server("b"), TestNetwork.layerClient).pipe(
          Layer.provideMerge(TestNetwork.layerNetwork())
        )
      ),
      Effect.provideService(Metric.MetricRegistry, new Map())
    )
  })
})
