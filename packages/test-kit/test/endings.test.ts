import { type Connection, type HandshakeRequest, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { Opcode } from "@effect-ws/core/protocol/Frame"
import { type TestLink, TestNetwork } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Stream } from "effect"
import { TestClock } from "effect/testing"

const start = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** How a side sees the end: its close code, who began it, and why its messages failed, if they did. */
const endOf = (connection: Connection.Connection) =>
  Effect.gen(function*() {
    const result = yield* Effect.result(Stream.runDrain(connection.messages))
    const { code, initiator, wasClean } = yield* connection.closed
    const why = result._tag === "Failure" ? result.failure.reason._tag : "Done"
    return `${code} ${initiator}${wasClean ? " clean" : ""} ${why}`
  })

/** A client and a server over one link, and the ends that both will see. */
const open = Effect.fnUntraced(function*(options: WebSocketClient.ConnectOptions = {}) {
  const network = yield* TestNetwork.TestNetwork
  const accepted = yield* Deferred.make<Connection.Connection>()
  const serving = WebSocketServer.serve(
    (connection) => Effect.andThen(Deferred.succeed(accepted, connection), connection.closed),
    { handshake: (_: HandshakeRequest.HandshakeRequest) => Effect.succeed({ data: undefined }) }
  )
  yield* Layer.build(serving)
  const client = yield* WebSocketClient.connect("ws://localhost", options)
  const server = yield* Deferred.await(accepted)
  const ends = { client: yield* start(endOf(client)), server: yield* start(endOf(server)) }
  return {
    client,
    server,
    link: yield* network.linkOf(client),
    ends: Effect.map(
      Effect.all([Fiber.join(ends.client), Fiber.join(ends.server)]),
      ([client, server]) => ({ client, server })
    ),
    isOver: Effect.sync(() => ends.client.pollUnsafe() !== undefined && ends.server.pollUnsafe() !== undefined)
  }
})

const cut: Partial<TestLink.Behaviour> = { flow: "cut" }

describe("both ends of a connection", () => {
  it.effect("a closing handshake is clean on both sides", () =>
    Effect.gen(function*() {
      const { client, ends } = yield* open()
      yield* client.close(4000)
      assert.deepStrictEqual(yield* ends, {
        client: "4000 Local clean Done",
        server: "4000 Remote clean PeerClosed"
      })
    }).pipe(Effect.provide(TestNetwork.layer)))

  it.effect("both close at once: both are clean, and each has the other's code", () =>
    Effect.gen(function*() {
      const { client, ends, server } = yield* open()
      yield* Effect.all([client.close(4001), server.close(4002)], { concurrency: 2 })
      assert.deepStrictEqual(yield* ends, {
        client: "4002 Local clean Done",
        server: "4001 Local clean Done"
      })
    }).pipe(Effect.provide(TestNetwork.layer)))

  it.effect("a half-open connection is given up by both, each after its heartbeat", () =>
    Effect.gen(function*() {
      const { ends, isOver, link } = yield* open()
      yield* link.set(cut)
      yield* TestClock.adjust("39999 millis")
      assert.isFalse(yield* isOver)
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* ends, {
        client: "1006 Local HeartbeatTimeout",
        server: "1006 Local HeartbeatTimeout"
      })
    }).pipe(Effect.provide(TestNetwork.layer)))

  it.effect("a partition that heals in time costs nothing but time", () =>
    Effect.gen(function*() {
      const { client, ends, link, server } = yield* open()
      yield* link.set(cut)
      yield* client.send("delayed")
      yield* TestClock.adjust("39 seconds")
      yield* link.set({ flow: "open" })
      yield* TestClock.adjust("5 minutes")
      assert.deepStrictEqual([yield* client.state, yield* server.state], ["Open", "Open"])
      yield* server.close()
      assert.deepStrictEqual(yield* ends, { client: "1000 Remote clean Done", server: "1000 Local clean Done" })
    }).pipe(Effect.provide(TestNetwork.layer)))

  it.effect("whose Pongs are swallowed is dropped, and learns it as a reset", () =>
    Effect.gen(function*() {
      const { ends, link } = yield* open({ heartbeat: false })
      yield* link.set({ swallow: [Opcode.pong] }, "toServer")
      yield* TestClock.adjust("40 seconds")
      assert.deepStrictEqual(yield* ends, {
        client: "1006 Remote ConnectionLost",
        server: "1006 Local HeartbeatTimeout"
      })
    }).pipe(Effect.provide(TestNetwork.layer)))

  it.effect("whose Close is swallowed is waited for until the close timeout", () =>
    Effect.gen(function*() {
      const { client, ends, link } = yield* open()
      yield* link.set({ swallow: [Opcode.close] })
      const closing = yield* start(client.close(4000))
      yield* TestClock.adjust("4999 millis")
      assert.isUndefined(closing.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* ends, {
        client: "1006 Local Done",
        server: "1006 Remote ConnectionLost"
      })
    }).pipe(Effect.provide(TestNetwork.layer)))

  it.effect("a reset in the middle of a frame is a loss on both sides", () =>
    Effect.gen(function*() {
      const { client, ends, link } = yield* open()
      yield* link.set({ resetAfter: 20 }, "toServer")
      yield* client.send("x".repeat(100))
      assert.deepStrictEqual(yield* ends, {
        client: "1006 Remote ConnectionLost",
        server: "1006 Remote ConnectionLost"
      })
    }).pipe(Effect.provide(TestNetwork.layer)))

  it.effect("a link that garbles bytes ends in a broken rule, not in a defect", () =>
    Effect.gen(function*() {
      const { client, ends, link } = yield* open()
      // The first header: its reserved bits, its opcode or its length.
      yield* link.set({ truncate: 1, chunkBytes: 3 }, "toServer")
      yield* client.sendAll(["one", "two", "three", "four"])
      yield* TestClock.adjust("1 minute")
      const { client: seenByClient, server } = yield* ends
      assert.match(
        server,
        /^(1002|1007|1009|1006) Local (ProtocolError|InvalidPayload|LimitExceeded|HeartbeatTimeout)$/
      )
      assert.notInclude(seenByClient, "Done")
    }).pipe(Effect.provide(TestNetwork.layer)))

  it.effect("a slow consumer is closed with 1013 when the queue is full, and dropped when it does not read even that", () =>
    Effect.gen(function*() {
      const { ends, link, server } = yield* open({ receiveBufferBytes: 100 })
      yield* link.set({ flow: "stalled" }, "toClient")
      let result = server.sendUnsafe("x".repeat(1000), { close: 1013 })
      while (result === "Accepted") result = server.sendUnsafe("x".repeat(1000), { close: 1013 })
      assert.strictEqual(result, "NotOpen")
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* ends, { client: "1006 Remote ConnectionLost", server: "1006 Local SlowConsumer" })
    }).pipe(Effect.provide(TestNetwork.layer)))

  it.effect("sends that wait for room fail when the connection is lost", () =>
    Effect.gen(function*() {
      const { client, link } = yield* open({ maxQueuedBytes: 1000 })
      yield* link.set({ flow: "stalled", bufferBytes: 0 }, "toServer")
      const sending = yield* start(Effect.flip(client.sendAll(Array.from({ length: 10 }, () => "x".repeat(500)))))
      yield* TestClock.adjust("10 seconds")
      assert.isUndefined(sending.pollUnsafe())
      yield* link.reset
      assert.strictEqual((yield* Fiber.join(sending)).reason._tag, "ConnectionNotOpen")
    }).pipe(Effect.provide(TestNetwork.layer)))
})
