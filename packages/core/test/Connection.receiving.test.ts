import type { Connection } from "@effect-ws/core/Connection"
import { Opcode } from "@effect-ws/core/protocol/Frame"
import type { TransportHandler } from "@effect-ws/core/Transport"
import { Wire } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Stream } from "effect"
import { binary, isWaiting, open, roles, settle, start } from "./fixture.ts"

const texts = (from: number, to: number, size = 0) =>
  Array.from({ length: to - from }, (_, index) => String(from + index).padEnd(size, "."))

// 32 bytes of overhead for each message count towards the mark.
const weightOf = (messages: ReadonlyArray<string | Uint8Array>) =>
  messages.reduce((bytes, message) => bytes + message.length + 32, 0)

const takeAll = (connection: Connection, count: number) =>
  Effect.gen(function*() {
    const taken: Array<string | Uint8Array> = []
    while (taken.length < count) taken.push(...yield* connection.pull)
    return taken
  })

describe("receiving", () => {
  it.effect.each(roles)("text and binary of any size arrive as they were sent (%s)", (role) =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ role, link: { chunkBytes: 1000 } })
      const large = Uint8Array.from({ length: 70_000 }, (_, index) => index)
      yield* peer.send(Wire.text(""), Wire.text("ü€😀"), binary(new Uint8Array(0)), binary(large))
      assert.deepStrictEqual(yield* takeAll(connection, 4), ["", "ü€😀", new Uint8Array(0), large])
    }))

  it.effect("§5.4: fragments arrive as one message", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      yield* peer.send(
        { ...Wire.text("a"), fin: false },
        { ...Wire.text("b"), fin: false, opcode: Opcode.continuation },
        { ...Wire.text("c"), opcode: Opcode.continuation }
      )
      assert.deepStrictEqual(yield* connection.pull, ["abc"])
    }))

  it.effect("one read of the socket is one batch of pull", () =>
    Effect.gen(function*() {
      const { connection, peer, wire } = yield* open()
      const pulling = yield* start(Effect.all([connection.pull, connection.pull]))
      yield* peer.sendText("a", "b", "c")
      yield* peer.sendText("d")
      assert.deepStrictEqual(yield* Fiber.join(pulling), [["a", "b", "c"], ["d"]])
      assert.strictEqual(wire.reads.length, 2)
    }))

  it.effect("one read of the socket is one chunk of messages", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const batches: Array<ReadonlyArray<string | Uint8Array>> = []
      const running = yield* connection.messages.pipe(
        Stream.runForEachArray((batch) => Effect.sync(() => batches.push(batch))),
        start
      )
      yield* peer.sendText("a", "b", "c")
      yield* peer.sendText("d", "e")
      yield* peer.sendClose(1000)
      yield* peer.end
      yield* Fiber.join(running)
      assert.deepStrictEqual(batches, [["a", "b", "c"], ["d", "e"]])
    }))

  it.effect("receive takes one message and leaves the rest to the next consumer", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      yield* peer.sendText("a", "b", "c", "d")
      assert.strictEqual(yield* connection.receive, "a")
      assert.strictEqual(yield* connection.receive, "b")
      assert.deepStrictEqual(yield* connection.pull, ["c", "d"])
    }))

  it.effect.each(["pull", "receive", "messages"] as const)(
    "interrupting a waiting consumer loses nothing (%s)",
    (kind) =>
      Effect.gen(function*() {
        const { connection, peer } = yield* open()
        const consumers = {
          pull: Effect.asVoid(connection.pull),
          receive: Effect.asVoid(connection.receive),
          messages: Stream.runDrain(connection.messages)
        }
        const waiting = yield* start<void, unknown, never>(consumers[kind])
        assert.isTrue(yield* isWaiting(waiting))
        yield* Fiber.interrupt(waiting)
        yield* peer.sendText("a", "b")
        assert.deepStrictEqual(yield* connection.pull, ["a", "b"])
      })
  )

  it.effect("a message goes to one consumer only, to the one that has waited longest", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const first = yield* start(connection.receive)
      const second = yield* start(connection.pull)
      const third = yield* start(connection.receive)
      yield* peer.sendText("a", "b", "c")
      yield* peer.sendText("d")
      assert.strictEqual(yield* Fiber.join(first), "a")
      assert.deepStrictEqual(yield* Fiber.join(second), ["b", "c"])
      assert.strictEqual(yield* Fiber.join(third), "d")
    }))
})

describe("demand", () => {
  const limits = { receiveBufferBytes: 4096, link: { chunkBytes: 1000, bufferBytes: 2000 } }

  it.effect.each(roles)(
    "nobody pulls: reading stops at the mark, and the peer gets backpressure (%s)",
    (role) =>
      Effect.gen(function*() {
        const { connection, peer, wire } = yield* open({ role, ...limits })
        const sent = texts(0, 200, 100)
        yield* peer.sendText(...sent)
        yield* settle
        const held = wire.reads.reduce((bytes, read) => bytes + read, 0)
        assert.isAtMost(held, 4096 + 1000)
        assert.isTrue(yield* peer.isBlocked)
        yield* settle
        assert.strictEqual(wire.reads.reduce((bytes, read) => bytes + read, 0), held)
        const batch = yield* connection.pull
        // No message is split off in the middle: 100 bytes and a header are about a tenth of a read.
        assert.isAtLeast(weightOf(batch), 4096)
        assert.isAtMost(weightOf(batch), 4096 + 10 * 132)
        const rest = yield* takeAll(connection, sent.length - batch.length)
        assert.deepStrictEqual([...batch, ...rest], sent)
        yield* settle
        assert.isFalse(yield* peer.isBlocked)
      })
  )

  it.effect("a flood of empty messages is bounded too", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ role: "client", ...limits })
      yield* peer.sendText(...Array.from({ length: 50_000 }, () => ""))
      yield* settle
      assert.isTrue(yield* peer.isBlocked)
      // A frame of an empty message is two bytes long.
      assert.isAtMost((yield* connection.pull).length, 4096 / 32 + 1000 / 2)
      assert.strictEqual((yield* takeAll(connection, 10_000))[9999], "")
    }))

  it.effect("reading goes on once all that was buffered is taken", () =>
    Effect.gen(function*() {
      const { connection, peer, wire } = yield* open({ receiveBufferBytes: 100 })
      yield* peer.sendText("a", "b", "c", "d")
      yield* settle
      for (const expected of ["a", "b", "c"]) assert.strictEqual(yield* connection.receive, expected)
      assert.deepStrictEqual(wire.calls, ["pause"])
      assert.strictEqual(yield* connection.receive, "d")
      assert.deepStrictEqual(wire.calls, ["pause", "resume"])
    }))

  it.effect("a message that is larger than the mark is read to its end", () =>
    Effect.gen(function*() {
      const { connection, peer, wire } = yield* open(limits)
      const large = "x".repeat(50_000)
      yield* peer.sendText(large)
      yield* settle
      assert.deepStrictEqual(wire.calls, ["pause"])
      assert.deepStrictEqual(yield* connection.pull, [large])
    }))

  it.effect("a message in the making counts towards the mark while another is buffered", () =>
    Effect.gen(function*() {
      const { connection, peer, wire } = yield* open(limits)
      const large = "x".repeat(50_000)
      yield* peer.sendText("small", large)
      yield* settle
      assert.isAtMost(wire.reads.length, 5)
      assert.deepStrictEqual(yield* connection.pull, ["small"])
      assert.deepStrictEqual(yield* connection.pull, [large])
    }))

  it.effect("nothing is read while paused; pause and resume may be repeated", () =>
    Effect.gen(function*() {
      const { connection, peer, wire } = yield* open()
      const pulling = yield* start(connection.pull)
      yield* Effect.all([connection.pause, connection.pause])
      yield* peer.sendText("a")
      assert.isTrue(yield* isWaiting(pulling))
      assert.deepStrictEqual(wire.reads, [])
      yield* Effect.all([connection.resume, connection.resume])
      assert.deepStrictEqual(yield* Fiber.join(pulling), ["a"])
      assert.deepStrictEqual(wire.calls, ["pause", "resume"])
    }))

  it.effect("taking what is buffered does not undo a pause", () =>
    Effect.gen(function*() {
      const { connection, peer, wire } = yield* open({ receiveBufferBytes: 1 })
      yield* peer.sendText("a")
      yield* settle
      yield* connection.pause
      assert.deepStrictEqual(yield* connection.pull, ["a"])
      assert.deepStrictEqual(wire.calls, ["pause"])
      yield* connection.resume
      assert.deepStrictEqual(wire.calls, ["pause", "resume"])
    }))

  it.effect("pause does nothing once closing has begun", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const closing = yield* start(connection.close())
      yield* connection.pause
      yield* peer.sendClose(1000)
      yield* peer.end
      yield* Fiber.join(closing)
    }))

  it.effect("a closed connection leaves its transport alone, whatever is asked of it", () =>
    Effect.gen(function*() {
      const { connection, peer, wire } = yield* open({ receiveBufferBytes: 1 })
      yield* peer.sendText("a")
      yield* settle
      yield* peer.reset
      yield* connection.closed
      const before = [...wire.calls]
      yield* Effect.all([connection.pause, connection.resume, connection.pull])
      assert.deepStrictEqual(wire.calls, before)
    }))

  // The limit of what is decoded at once is 1,024 messages.
  const flood = Array.from({ length: 3000 }, (_, index) => String(index))

  it.effect("a read of very many messages is decoded in parts, as far as there is room", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ receiveBufferBytes: 4096 })
      yield* peer.sendText(...flood)
      yield* settle
      const batch = yield* connection.pull
      assert.isAtMost(batch.length, 1024)
      assert.deepStrictEqual(batch.concat(yield* takeAll(connection, 3000 - batch.length)), flood)
    }))

  it.effect("nothing of a read is left over while there is room", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ receiveBufferBytes: 1024 * 1024 })
      yield* peer.sendText(...flood)
      yield* settle
      assert.deepStrictEqual([...(yield* connection.pull)], flood)
    }))

  it.effect.each(["reset", "end"] as const)(
    "what was read before a %s is delivered, however much it was",
    (how) =>
      Effect.gen(function*() {
        const { connection, peer } = yield* open({ receiveBufferBytes: 100 })
        yield* peer.sendText(...flood)
        yield* settle
        yield* peer[how]
        yield* connection.closed
        assert.deepStrictEqual(yield* takeAll(connection, 3000), flood)
      })
  )

  /** A connection, and what a transport of ours would tell it. */
  const openDriven = Effect.fnUntraced(function*(options: Parameters<typeof open>[0]) {
    let handler: TransportHandler | undefined
    const { connection } = yield* open({
      ...options,
      wrap: (transport) => ({
        ...transport,
        start: (given) => {
          handler = given
          transport.start(given)
        }
      })
    })
    return { connection, handler: handler! }
  })

  it.effect("a read that comes though reading was stopped stays in order", () =>
    Effect.gen(function*() {
      const { connection, handler } = yield* openDriven({ receiveBufferBytes: 100 })
      const lent = Wire.encode("client", flood.map((text) => Wire.text(text)))
      handler.onData(lent)
      lent.fill(0xff)
      handler.onData(Wire.encode("client", [Wire.text("late")]))
      assert.deepStrictEqual(yield* takeAll(connection, 3001), [...flood, "late"])
    }))

  it.effect("a read in which a callback throws is not read on from memory that was given back", () =>
    Effect.gen(function*() {
      const { connection, handler } = yield* openDriven({})
      const taken: Array<string | Uint8Array> = []
      const onExit = (exit: Exit.Exit<ReadonlyArray<string | Uint8Array>, unknown>) => {
        if (Exit.isSuccess(exit)) taken.push(...exit.value)
        throw new Error("not ours")
      }
      Effect.runCallback(connection.pull, { onExit })
      const lent = Wire.encode("client", flood.map((text) => Wire.text(text)))
      assert.throws(() => handler.onData(lent), "not ours")
      lent.fill(0xff)
      handler.onData(Wire.encode("client", [Wire.text("late")]))
      taken.push(...yield* takeAll(connection, 3001 - taken.length))
      assert.deepStrictEqual(taken, [...flood, "late"])
    }))
})
