import { Opcode } from "@effect-ws/core/protocol/Frame"
import { TestLink, WebSocketProbe, Wire } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Random } from "effect"
import { TestClock } from "effect/testing"

/** Two probes at the ends of a link: what is said of the link is said of both directions. */
const open = Effect.fnUntraced(function*(behaviour?: Partial<TestLink.Behaviour>) {
  const link = yield* TestLink.make(behaviour)
  const client = yield* WebSocketProbe.make(link.client, "client")
  const server = yield* WebSocketProbe.make(link.server, "server")
  return { link, client, server }
})

const settle = Effect.repeat(Effect.yieldNow, { times: 4 })

/** The bytes that arrive, in the chunks that they arrive in. */
const listen = (transport: TestLink.TestLink["client"]) => {
  const events: Array<Array<number> | string> = []
  transport.start({
    onData: (chunk) => {
      events.push([...chunk])
    },
    onDrain: () => {
      events.push("drain")
    },
    onOverrun: () => {
      events.push("overrun")
    },
    onEnd: () => {
      events.push("end")
    },
    onClose: (cause) => {
      events.push(cause === undefined ? "closed" : String(cause))
    }
  })
  return events
}

const openRaw = Effect.fnUntraced(function*(behaviour?: Partial<TestLink.Behaviour>) {
  const link = yield* TestLink.make(behaviour)
  const events = { client: listen(link.client), server: listen(link.server) }
  return { link, events }
})

describe("a link", () => {
  it.effect("without a behaviour carries what is written, at once and as it was written", () =>
    Effect.gen(function*() {
      const { events, link } = yield* openRaw()
      assert.isTrue(link.client.write([Uint8Array.of(1, 2), Uint8Array.of(3)]))
      link.client.end()
      yield* settle
      assert.deepStrictEqual(events.server, [[1, 2], [3], "end"])
      link.server.end()
      yield* settle
      assert.deepStrictEqual(events.server, [[1, 2], [3], "end", "closed"])
      assert.deepStrictEqual(events.client, ["end", "closed"])
      assert.isTrue(yield* link.isOver)
    }))

  it.effect("latency: a byte arrives when it is due, not a millisecond before", () =>
    Effect.gen(function*() {
      const { events, link } = yield* openRaw({ latency: "1 second" })
      link.client.write([Uint8Array.of(1)])
      yield* TestClock.adjust("500 millis")
      link.client.write([Uint8Array.of(2)])
      yield* TestClock.adjust("499 millis")
      assert.deepStrictEqual(events.server, [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(events.server, [[1]])
      yield* TestClock.adjust("500 millis")
      assert.deepStrictEqual(events.server, [[1], [2]])
    }))

  it.effect("what is written between two milliseconds arrives, however little is missing to the next", () =>
    Effect.gen(function*() {
      const { events, link } = yield* openRaw()
      for (let i = 1; i <= 200; i++) {
        yield* TestClock.setTime(i * 1000 - 0.1 ** (i % 14))
        link.client.write([Uint8Array.of(1)])
        yield* settle
        yield* TestClock.adjust("1 millis")
        assert.lengthOf(events.server, i)
      }
    }))

  it.effect("jitter: bytes are late by chance, within the bound, and never overtake", () =>
    Effect.gen(function*() {
      const { events, link } = yield* openRaw({ latency: 10, jitter: 100 })
      for (let i = 0; i < 20; i++) {
        link.client.write([Uint8Array.of(i)])
        yield* TestClock.adjust("5 millis")
      }
      const soon = events.server.length
      assert.isBelow(soon, 19)
      yield* TestClock.adjust("110 millis")
      assert.deepStrictEqual(events.server, Array.from({ length: 20 }, (_, i) => [i]))
    }).pipe(Random.withSeed("jitter")))

  it.effect("bandwidth: a long write arrives bit by bit", () =>
    Effect.gen(function*() {
      const { events, link } = yield* openRaw({ bytesPerSecond: 14_600 })
      link.client.write([new Uint8Array(14_600)])
      yield* TestClock.adjust("500 millis")
      assert.lengthOf(events.server, 5)
      yield* TestClock.adjust("500 millis")
      assert.lengthOf(events.server, 10)
    }))

  it.effect.each([1, 3, Infinity])("chunks are no longer than chunkBytes (%d)", (chunkBytes) =>
    Effect.gen(function*() {
      const { events, link } = yield* openRaw({ chunkBytes })
      link.client.write([Uint8Array.of(1, 2, 3, 4, 5, 6)])
      yield* settle
      const length = Math.min(6, chunkBytes)
      assert.deepStrictEqual(
        events.server,
        Array.from({ length: 6 / length }, (_, i) => [1, 2, 3, 4, 5, 6].slice(i * length, (i + 1) * length))
      )
    }))

  it.effect("chunks are drawn from a range by chance, and the seed decides", () => {
    const lengths = Effect.gen(function*() {
      const { events, link } = yield* openRaw({ chunkBytes: { min: 1, max: 9 } })
      link.client.write([new Uint8Array(100)])
      yield* settle
      return events.server.map((chunk) => chunk.length)
    })
    return Effect.gen(function*() {
      const one = yield* Random.withSeed(lengths, "one")
      assert.isAtLeast(new Set(one).size, 4)
      assert.isAtMost(Math.max(...one), 9)
      assert.deepStrictEqual(yield* Random.withSeed(lengths, "one"), one)
      assert.notDeepEqual(yield* Random.withSeed(lengths, "two"), one)
    })
  })

  it.effect("a full buffer makes the writer wait, and a reader that reads on drains it", () =>
    Effect.gen(function*() {
      const { events, link } = yield* openRaw({ bufferBytes: 10 })
      link.server.pause()
      assert.isTrue(link.client.write([new Uint8Array(10)]))
      assert.isFalse(link.client.write([new Uint8Array(1)]))
      assert.throws(() => link.client.write([new Uint8Array(1)]), "before it has drained")
      assert.strictEqual(yield* link.inTransit("toServer"), 11)
      yield* settle
      assert.deepStrictEqual(events.client, [])
      link.server.resume()
      yield* settle
      assert.deepStrictEqual(events.client, ["drain"])
      assert.strictEqual(yield* link.inTransit("toServer"), 0)
    }))

  it.effect("what a busy link was given is read later: a writer that overwrites it is found out", () =>
    Effect.gen(function*() {
      const { events, link } = yield* openRaw({ bufferBytes: 0 })
      const bytes = Uint8Array.of(1)
      assert.isFalse(link.client.write([bytes]))
      bytes[0] = 2
      yield* settle
      assert.deepStrictEqual(events.server, [[2]])
    }))

  it.effect("what a link took may be overwritten, and what it delivers is a copy, of Node's arrays too", () =>
    Effect.gen(function*() {
      const { events, link } = yield* openRaw()
      const bytes = Buffer.of(1, 2)
      assert.isTrue(link.client.write([bytes]))
      bytes.fill(9)
      yield* settle
      assert.deepStrictEqual(events.server, [[1, 2]])
    }))

  it.effect("a read is lent: who keeps it finds it garbled", () =>
    Effect.gen(function*() {
      const link = yield* TestLink.make()
      const kept: Array<Uint8Array> = []
      const ignore = () => {}
      link.server.start({
        onData: (chunk) => void kept.push(chunk),
        onDrain: ignore,
        onOverrun: ignore,
        onEnd: ignore,
        onClose: ignore
      })
      link.client.write([Uint8Array.of(1, 2)])
      yield* settle
      assert.notDeepEqual(kept, [Uint8Array.of(1, 2)])
    }))

  it.effect("stalled: nothing arrives in that direction until it flows again, but a reset does", () =>
    Effect.gen(function*() {
      const { events, link } = yield* openRaw()
      yield* link.set({ flow: "stalled" }, "toServer")
      link.client.write([Uint8Array.of(1)])
      link.server.write([Uint8Array.of(2)])
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(events, { client: [[2]], server: [] })
      yield* link.set({ flow: "open" })
      yield* settle
      assert.deepStrictEqual(events.server, [[1]])
      yield* link.set({ flow: "stalled" })
      link.client.destroy()
      yield* settle
      assert.deepStrictEqual(events.server, [[1], "Error: connection reset"])
    }))

  it.effect("cut: the peer vanishes without a byte, and what was on the way arrives when the partition heals", () =>
    Effect.gen(function*() {
      const { events, link } = yield* openRaw({ bufferBytes: 2 })
      yield* link.set({ flow: "cut" })
      assert.isTrue(link.client.write([Uint8Array.of(1)]))
      assert.isFalse(link.client.write([Uint8Array.of(2, 3)]))
      link.server.destroy()
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(events, { client: [], server: ["closed"] })
      assert.isFalse(yield* link.isOver)
      yield* link.set({ flow: "open" })
      yield* settle
      assert.deepStrictEqual(events.client, ["Error: connection reset"])
    }))

  it.effect("resetAfter: the link breaks in the middle of a frame", () =>
    Effect.gen(function*() {
      const { events, link } = yield* openRaw()
      yield* link.set({ resetAfter: 3 }, "toServer")
      link.client.write([Uint8Array.of(1, 2), Uint8Array.of(3, 4)])
      yield* settle
      assert.deepStrictEqual(events, {
        client: ["Error: connection reset"],
        server: [[1, 2], [3], "Error: connection reset"]
      })
    }))

  it.effect("swallow: some frames vanish, whole, however they are cut into chunks", () =>
    Effect.gen(function*() {
      const { client, link, server } = yield* open({ chunkBytes: 2 })
      yield* client.sendText("a")
      yield* server.expectText("a")
      yield* link.set({ swallow: [Opcode.pong, Opcode.close] }, "toServer")
      yield* client.send(Wire.pong("gone"), Wire.text("b"), Wire.close(1000), Wire.ping("p"))
      yield* server.send(Wire.pong("kept"))
      yield* server.expectText("b")
      assert.deepStrictEqual(yield* server.expectPing, Wire.ping("p").payload)
      yield* client.expectPong(Wire.ping("kept").payload)
    }))

  it.effect.each(["corrupt", "duplicate", "truncate"] as const)(
    "%s: with chance 1, every chunk is hit",
    (fault) =>
      Effect.gen(function*() {
        const { events, link } = yield* openRaw({ [fault]: 1 })
        const sent = Uint8Array.of(1, 2, 3, 4)
        link.client.write([sent])
        yield* settle
        const bits = (bytes: ReadonlyArray<number>) =>
          bytes.reduce((count, byte, i) => count + (byte ^ sent[i]!).toString(2).replaceAll("0", "").length, 0)
        switch (fault) {
          case "corrupt":
            assert.strictEqual(bits(events.server[0] as Array<number>), 1)
            break
          case "duplicate":
            assert.deepStrictEqual(events.server, [[1, 2, 3, 4], [1, 2, 3, 4]])
            break
          case "truncate":
            assert.isBelow(events.server.flat().length, 4)
        }
        assert.deepStrictEqual(sent, Uint8Array.of(1, 2, 3, 4))
      })
  )

  it.effect("a scope that closes breaks its link", () =>
    Effect.gen(function*() {
      const { events, link } = yield* Effect.scoped(openRaw({ flow: "cut" }))
      yield* settle
      assert.isTrue(yield* link.isOver)
      assert.deepStrictEqual(events.client, ["Error: connection reset"])
    }))
})
