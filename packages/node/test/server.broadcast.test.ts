import type { Overflow } from "@effect-ws/core/SendQueue"
import type { BroadcastOptions } from "@effect-ws/core/WebSocketServer"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { connect, handOver, start } from "./fixture.ts"
import { closeOf, opcodes, type RawPeer, upgradeRaw } from "./rawPeer.ts"

describe("broadcast", () => {
  it.live("reaches everyone, text and binary", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver()
      const { server, url } = yield* start(serving)
      const clients = yield* Effect.all([connect(url), connect(url), connect(url)])
      yield* Effect.all([accept, accept, accept])
      yield* server.broadcast("zażółć")
      yield* server.broadcast(Uint8Array.of(1, 2, 3))
      for (const client of clients) {
        assert.strictEqual(yield* client.receive, "zażółć")
        assert.deepStrictEqual(yield* client.receive, Uint8Array.of(1, 2, 3))
      }
    }))

  it.live("leaves out whom it is told to", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver()
      const { server, url } = yield* start(serving)
      const one = yield* connect(url)
      const except = yield* accept
      const two = yield* connect(url)
      yield* server.broadcast("not for one", { except })
      yield* server.broadcast("for all")
      assert.deepStrictEqual([yield* two.receive, yield* two.receive], ["not for one", "for all"])
      assert.strictEqual(yield* one.receive, "for all")
    }))

  it.live("passes over those that are closing or gone", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver()
      const { port, server, url } = yield* start(serving)
      const silent = yield* upgradeRaw(port)
      const closing = yield* accept
      const client = yield* connect(url)
      yield* Effect.forkChild(closing.close(), { startImmediately: true })
      yield* server.broadcast("hello")
      assert.strictEqual(yield* client.receive, "hello")
      assert.strictEqual(closeOf(yield* silent.frame)?.code, 1000)
      yield* silent.reset
      yield* closing.closed
      yield* server.broadcast("again")
      assert.strictEqual(yield* client.receive, "again")
    }))
})

describe("broadcast to a client that reads nothing, and one that does", () => {
  // More than the kernel buffers for a socket, on both of its sides together.
  const count = 128

  const numbered = (number: number): Uint8Array => {
    const bytes = Buffer.alloc(64 * 1024)
    bytes.writeUInt32BE(number)
    return new Uint8Array(bytes)
  }

  const startStalled = Effect.fnUntraced(function*(overflow: Overflow) {
    const { accept, serving } = yield* handOver()
    const { port, server } = yield* start(serving, { overflow, maxQueuedMessages: 4 })
    const reading = yield* upgradeRaw(port)
    yield* accept
    const stalling = yield* upgradeRaw(port)
    stalling.socket.pause()
    return { server, reading, stalling, stalled: yield* accept }
  })

  /** Broadcasts all numbers, each after the reading client has the one before. */
  const broadcastAll = Effect.fnUntraced(function*(overflow: Overflow, options?: BroadcastOptions) {
    const started = yield* startStalled(overflow)
    for (let number = 0; number < count; number++) {
      yield* started.server.broadcast(numbered(number), options)
      assert.strictEqual((yield* started.reading.frame).payload.readUInt32BE(), number)
    }
    return started
  })

  /** The numbers that reach a client that begins to read, and how its connection ends. */
  const drain = Effect.fnUntraced(function*(peer: RawPeer) {
    peer.socket.resume()
    const numbers: Array<number> = []
    while (true) {
      const frame = yield* peer.frame
      if (frame.opcode !== opcodes.binary) return { numbers, close: closeOf(frame)?.code }
      numbers.push(frame.payload.readUInt32BE())
    }
  })

  const all = Array.from({ length: count }, (_, number) => number)
  const isSubsequence = (numbers: ReadonlyArray<number>) =>
    numbers.length < count && numbers.every((number, i) => i === 0 || number > (numbers[i - 1] ?? 0))

  it.live("under suspend: ends when that one has room, and the other has its message already", () =>
    Effect.gen(function*() {
      const { reading, server, stalled, stalling } = yield* startStalled("suspend")
      let number = 0
      let broadcasting = yield* Effect.forkChild(Effect.void, { startImmediately: true })
      while (broadcasting.pollUnsafe() !== undefined) {
        assert.isBelow(number, count)
        broadcasting = yield* Effect.forkChild(server.broadcast(numbered(number)), { startImmediately: true })
        assert.strictEqual((yield* reading.frame).payload.readUInt32BE(), number)
        number++
      }
      const draining = yield* Effect.forkChild(drain(stalling))
      yield* Fiber.join(broadcasting)
      yield* Effect.forkChild(stalled.close())
      assert.deepStrictEqual(yield* Fiber.join(draining), { numbers: all.slice(0, number), close: 1000 })
    }))

  it.live.each<readonly [name: string, overflow: Overflow, options: BroadcastOptions | undefined]>([
    ["fail", "fail", undefined],
    ["drop-newest", "drop-newest", undefined],
    ["drop-newest, of the broadcast", "suspend", { overflow: "drop-newest" }]
  ])("under %s: that one misses what it has no room for", ([, overflow, options]) =>
    Effect.gen(function*() {
      const { stalled, stalling } = yield* broadcastAll(overflow, options)
      yield* Effect.forkChild(stalled.close())
      const { close, numbers } = yield* drain(stalling)
      assert.isTrue(isSubsequence(numbers))
      assert.deepStrictEqual([numbers[0], numbers.includes(count - 1), close], [0, false, 1000])
    }))

  it.live.each<readonly [name: string, overflow: Overflow, options: BroadcastOptions | undefined]>([
    ["drop-oldest", "drop-oldest", undefined],
    ["drop-oldest, of the broadcast", "suspend", { overflow: "drop-oldest" }]
  ])("under %s: that one misses older messages, and has the latest", ([, overflow, options]) =>
    Effect.gen(function*() {
      const { stalled, stalling } = yield* broadcastAll(overflow, options)
      yield* Effect.forkChild(stalled.close())
      const { close, numbers } = yield* drain(stalling)
      assert.isTrue(isSubsequence(numbers))
      assert.deepStrictEqual([numbers[0], numbers.at(-1), close], [0, count - 1, 1000])
    }))

  it.live.each<readonly [code: 1008 | 1013, overflow: Overflow, options: BroadcastOptions | undefined]>([
    [1008, { close: 1008 }, undefined],
    [1013, { close: 1013 }, undefined],
    [1013, "suspend", { overflow: { close: 1013 } }]
  ])("under close: that one is closed with %s", ([code, overflow, options]) =>
    Effect.gen(function*() {
      const { server, stalled, stalling } = yield* broadcastAll(overflow, options)
      assert.strictEqual(yield* stalled.state, "Closing")
      const { close, numbers } = yield* drain(stalling)
      assert.isTrue(isSubsequence(numbers))
      assert.strictEqual(close, code)
      yield* stalling.reset
      const error = yield* Effect.flip(stalled.receive)
      assert.strictEqual(error._tag === "ConnectionError" && error.reason._tag, "SlowConsumer")
      assert.strictEqual((yield* server.connections).length, 1)
    }))
})
