import type { Overflow } from "@effect-ws/core/SendQueue"
import type { BroadcastOptions } from "@effect-ws/core/WebSocketServer"
import type { WebSocketProbe } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { isWaiting, start } from "./fixture.ts"
import { handOver, serve } from "./serverFixture.ts"

describe("broadcast", () => {
  it.effect("reaches everyone, text and binary", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver()
      const { connect, server } = yield* serve(serving)
      const clients = yield* Effect.replicateEffect(connect(), 3)
      yield* Effect.replicateEffect(accept, 3)
      yield* server.broadcast("zażółć")
      yield* server.broadcast(Uint8Array.of(1, 2, 3))
      for (const client of clients) {
        assert.strictEqual(yield* client.receive, "zażółć")
        assert.deepStrictEqual(yield* client.receive, Uint8Array.of(1, 2, 3))
      }
    }))

  it.effect("leaves out whom it is told to", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver()
      const { connect, server } = yield* serve(serving)
      const one = yield* connect()
      const except = yield* accept
      const two = yield* connect()
      yield* accept
      yield* server.broadcast("not for one", { except })
      yield* server.broadcast("for all")
      assert.deepStrictEqual([yield* two.receive, yield* two.receive], ["not for one", "for all"])
      assert.strictEqual(yield* one.receive, "for all")
    }))

  it.effect("passes over those that are closing or gone", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver()
      const { connect, probe, server } = yield* serve(serving)
      const silent = yield* probe()
      const closing = yield* accept
      const client = yield* connect()
      yield* start(closing.close())
      yield* server.broadcast("hello")
      assert.strictEqual(yield* client.receive, "hello")
      yield* silent.expectClose(1000)
      yield* silent.reset
      yield* closing.closed
      yield* server.broadcast("again")
      assert.strictEqual(yield* client.receive, "again")
    }))
})

describe("broadcast to a client that reads nothing, and one that does", () => {
  const count = 10
  const all = Array.from({ length: count }, (_, number) => String(number))

  // Of the one that stalls, the first message is in flight, and four wait.
  const startStalled = Effect.fnUntraced(function*(overflow: Overflow) {
    const { accept, serving } = yield* handOver()
    const { probe, server } = yield* serve(serving, { overflow, maxQueuedMessages: 4, link: { bufferBytes: 0 } })
    const reading = yield* probe()
    yield* accept
    const stalling = yield* probe()
    yield* stalling.demand(0)
    return { server, reading, stalling, stalled: yield* accept }
  })

  /** Broadcasts all, each after the reading client has the one before. */
  const broadcastAll = Effect.fnUntraced(function*(overflow: Overflow, options?: BroadcastOptions) {
    const started = yield* startStalled(overflow)
    for (const text of all) {
      yield* started.server.broadcast(text, options)
      yield* started.reading.expectText(text)
    }
    return started
  })

  /** What reaches a client that begins to read, up to a Close of this code. */
  const drain = Effect.fnUntraced(function*(peer: WebSocketProbe.WebSocketProbe, code: number, count: number) {
    yield* peer.demand(Infinity)
    const texts = yield* Effect.replicateEffect(peer.expectText(), count)
    yield* peer.expectClose(code)
    return texts
  })

  it.effect("under suspend: ends when that one has room, and the other has its message already", () =>
    Effect.gen(function*() {
      const { reading, server, stalled, stalling } = yield* startStalled("suspend")
      let sent = 0
      let broadcasting = yield* start(server.broadcast(all[sent]!))
      while (!(yield* isWaiting(broadcasting))) {
        yield* reading.expectText(all[sent]!)
        broadcasting = yield* start(server.broadcast(all[++sent]!))
      }
      yield* reading.expectText(all[sent]!)
      assert.isAtLeast(sent, 4)
      yield* stalling.demand(1)
      yield* Fiber.join(broadcasting)
      yield* start(stalled.close())
      assert.deepStrictEqual(yield* drain(stalling, 1000, sent + 1), all.slice(0, sent + 1))
    }))

  it.effect.each<readonly [name: string, overflow: Overflow, options: BroadcastOptions | undefined]>([
    ["fail", "fail", undefined],
    ["drop-newest", "drop-newest", undefined],
    ["drop-newest, of the broadcast", "suspend", { overflow: "drop-newest" }]
  ])("under %s: that one misses what it has no room for", ([, overflow, options]) =>
    Effect.gen(function*() {
      const { stalled, stalling } = yield* broadcastAll(overflow, options)
      yield* start(stalled.close())
      assert.deepStrictEqual(yield* drain(stalling, 1000, 4), all.slice(0, 4))
    }))

  it.effect.each<readonly [name: string, overflow: Overflow, options: BroadcastOptions | undefined]>([
    ["drop-oldest", "drop-oldest", undefined],
    ["drop-oldest, of the broadcast", "suspend", { overflow: "drop-oldest" }]
  ])("under %s: that one misses older messages, and has the latest", ([, overflow, options]) =>
    Effect.gen(function*() {
      const { stalled, stalling } = yield* broadcastAll(overflow, options)
      yield* start(stalled.close())
      assert.deepStrictEqual(yield* drain(stalling, 1000, 4), ["0", ...all.slice(-3)])
    }))

  it.effect.each<readonly [code: 1008 | 1013, overflow: Overflow, options: BroadcastOptions | undefined]>([
    [1008, { close: 1008 }, undefined],
    [1013, { close: 1013 }, undefined],
    [1013, "suspend", { overflow: { close: 1013 } }]
  ])("under close: that one is closed with %s", ([code, overflow, options]) =>
    Effect.gen(function*() {
      const { server, stalled, stalling } = yield* broadcastAll(overflow, options)
      assert.strictEqual(yield* stalled.state, "Closing")
      assert.deepStrictEqual(yield* drain(stalling, code, 1), ["0"])
      yield* stalling.reset
      const error = yield* Effect.flip(stalled.receive)
      assert.strictEqual(error._tag === "ConnectionError" && error.reason._tag, "SlowConsumer")
      assert.strictEqual((yield* server.connections).length, 1)
    }))
})
