import * as Message from "@effect-ws/core/Message"
import { Opcode } from "@effect-ws/core/protocol/Frame"
import type { TransportHandler } from "@effect-ws/core/Transport"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Stream } from "effect"
import {
  control,
  frames,
  isWaiting,
  open,
  openStalled,
  reasonOf,
  remainingFrames,
  roles,
  settle,
  start
} from "./fixture.ts"

const text = (size: number, fill = "x") => fill.repeat(size)

/** A stalled connection with one message in flight, so that whatever is sent from now on waits in the queue. */
const openBusy = (options: Parameters<typeof openStalled>[0] = {}) =>
  Effect.tap(openStalled(options), ({ connection }) => Effect.andThen(connection.send("first"), settle))

/** What nobody catches is written down, from now to the end of the scope. */
const uncaughtErrors = Effect.acquireRelease(
  Effect.sync(() => {
    const before = process.listeners("uncaughtException")
    const errors: Array<unknown> = []
    process.removeAllListeners("uncaughtException").on("uncaughtException", (error) => errors.push(error))
    return Object.assign(errors, { before })
  }),
  ({ before }) =>
    Effect.sync(() => {
      process.removeAllListeners("uncaughtException")
      for (const listener of before) process.on("uncaughtException", listener)
    })
)

describe("sendAll", () => {
  it.effect("does not take what is no message for the end", () =>
    Effect.gen(function*() {
      const { connection } = yield* open()
      const messages = ["first", undefined as unknown as string, "last"]
      for (const each of [messages, new Set(messages)]) {
        assert.isTrue(Exit.hasDies(yield* Effect.exit(connection.sendAll(each))))
      }
    }))

  it.effect("of very many messages lets others have their turn, and can be interrupted", () =>
    Effect.gen(function*() {
      // A transport that never is busy.
      const { connection } = yield* open({ wrap: (transport) => ({ ...transport, write: () => true }) })
      let sent = 0
      const endless = function*() {
        for (; sent < 1_000_000; sent++) yield "message"
      }
      const sending = yield* start(connection.sendAll(endless()))
      yield* settle
      yield* Fiber.interrupt(sending)
      assert.isAbove(sent, 1000)
      assert.isBelow(sent, 1_000_000)
    }))
})

describe("sending", () => {
  it.effect.each(roles)("text, binary and prepared messages arrive in order (%s)", (role) =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ role })
      yield* connection.send("ü€😀")
      yield* connection.send(Uint8Array.of(1, 2))
      yield* connection.send(Message.prepare("ready"))
      yield* connection.send(Message.prepare(Uint8Array.of(3)))
      yield* connection.sendAll(["", new Uint8Array(0)])
      assert.deepStrictEqual(yield* frames(peer, 6), [
        "text ü€😀",
        "binary 1,2",
        "text ready",
        "binary 3",
        "text",
        "binary"
      ])
    }))

  it.effect("a prepared message that goes alone is passed on as it is, and with others, they leave in one write", () =>
    Effect.gen(function*() {
      const written: Array<ReadonlyArray<Uint8Array>> = []
      const { connection, peer } = yield* open({
        wrap: (transport) => ({
          ...transport,
          write: (chunks) => {
            written.push(chunks.slice())
            return transport.write(chunks)
          }
        })
      })
      const prepared = Message.prepare("p")
      yield* connection.send(prepared)
      yield* settle
      assert.deepStrictEqual(written, [[prepared.frame]])
      assert.strictEqual(written[0]![0], prepared.frame)
      yield* connection.sendAll([prepared, "a", prepared])
      yield* settle
      yield* connection.sendAll([prepared, prepared, Uint8Array.of(1)])
      yield* settle
      yield* connection.send(prepared)
      yield* start(connection.ping)
      yield* settle
      assert.deepStrictEqual(written.map((chunks) => chunks.length), [1, 1, 1, 1])
      const all = ["text p", "text p", "text a", "text p", "text p", "text p", "binary 1", "text p", "ping"]
      const arrived = yield* frames(peer, all.length)
      assert.deepStrictEqual(arrived.map((frame) => frame.replace(/^ping.*/, "ping")), all)
    }))

  it.effect.each(roles)("a large payload arrives whole, alone and prepared (%s)", (role) =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ role })
      const large = Uint8Array.from({ length: 200_000 }, (_, index) => index)
      yield* connection.sendAll([large, Message.prepare(large), text(100_000, "ü")])
      assert.deepStrictEqual((yield* peer.frame).payload, large)
      assert.deepStrictEqual((yield* peer.frame).payload, large)
      assert.deepStrictEqual(yield* frames(peer, 1), [`text ${text(100_000, "ü")}`])
    }))

  it.effect("a prepared message keeps what its bytes were", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const bytes = Uint8Array.of(1)
      const prepared = Message.prepare(bytes)
      bytes[0] = 2
      yield* connection.send(prepared)
      assert.deepStrictEqual(yield* frames(peer, 1), ["binary 1"])
    }))

  it.effect("what is sent in one turn leaves in one write", () =>
    Effect.gen(function*() {
      const { connection, peer, wire } = yield* open()
      yield* connection.send("a")
      yield* connection.sendAll(["b", "c"])
      yield* connection.sendPing()
      assert.strictEqual(connection.sendUnsafe("d"), "Accepted")
      assert.deepStrictEqual(yield* frames(peer, 5), ["text a", "text b", "text c", "ping", "text d"])
      assert.strictEqual(wire.writes.length, 1)
    }))

  it.effect("what others send in the same turn leaves, whatever a callback of one connection throws", () =>
    Effect.gen(function*() {
      const uncaught = yield* uncaughtErrors
      const [one, other] = [yield* open(), yield* open()]
      yield* one.connection.send("one")
      Effect.runCallback(one.connection.drained, {
        onExit: () => {
          throw new Error("not ours")
        }
      })
      yield* other.connection.send("other")
      yield* other.peer.expectText("other")
      assert.deepStrictEqual(uncaught.map(String), ["Error: not ours"])
    }))

  it.effect("what a read causes to be sent leaves in one write, before the read is over", () =>
    Effect.gen(function*() {
      const { connection, peer, wire } = yield* open()
      yield* start(Stream.runForEach(connection.messages, (message) => connection.send(message)))
      yield* peer.sendText("a", "b", "c")
      assert.deepStrictEqual(yield* frames(peer, 3), ["text a", "text b", "text c"])
      assert.strictEqual(wire.writes.length, 1)
    }))
})

describe("the bound of the queue", () => {
  it.effect("send suspends at the bound of messages, and goes on in order when the peer reads", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openBusy({ maxQueuedMessages: 3 })
      yield* connection.sendAll(["a", "b"])
      const waiting = [
        yield* start(connection.send("c")),
        yield* start(connection.sendAll(["d", "e"])),
        yield* start(connection.send("f"))
      ]
      for (const fiber of waiting) assert.isTrue(yield* isWaiting(fiber))
      assert.strictEqual(yield* connection.queuedMessages, 3)
      yield* peer.demand(Infinity)
      yield* Fiber.joinAll(waiting)
      const sent = yield* frames(peer, 7)
      assert.deepStrictEqual(sent.slice(0, 5), ["text first", "text a", "text b", "text c", "text d"])
      // The second message of `sendAll` queues up behind those who were waiting already.
      assert.deepStrictEqual(sent.slice(5), ["text f", "text e"])
    }))

  it.effect("send suspends at the bound of bytes", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openBusy({ maxQueuedBytes: 100 })
      const before = yield* connection.queuedBytes
      yield* connection.send(text(98 - before))
      assert.strictEqual(yield* connection.queuedBytes, 100)
      const waiting = yield* start(connection.send(""))
      assert.isTrue(yield* isWaiting(waiting))
      yield* peer.demand(Infinity)
      yield* Fiber.join(waiting)
      assert.deepStrictEqual(yield* frames(peer, 3), ["text first", `text ${text(98 - before)}`, "text"])
    }))

  it.effect("nobody overtakes a suspended sender, however small the message", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openBusy({ maxQueuedBytes: 100 })
      const waiting = yield* Effect.forEach([text(95), text(90), "y"], (message) => start(connection.send(message)))
      for (const fiber of waiting) assert.isTrue(yield* isWaiting(fiber))
      assert.strictEqual(connection.sendUnsafe("z"), "Full")
      // When the first of them fits, the last would fit too.
      yield* peer.demand(Infinity)
      yield* Fiber.joinAll(waiting)
      assert.deepStrictEqual(yield* frames(peer, 4), ["text first", `text ${text(95)}`, `text ${text(90)}`, "text y"])
    }))

  it.effect("a message larger than the bound is taken when nothing else waits, and only then", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openBusy({ maxQueuedBytes: 100 })
      const waiting = yield* start(connection.send(text(1000)))
      assert.isTrue(yield* isWaiting(waiting))
      yield* peer.demand(Infinity)
      yield* Fiber.join(waiting)
      assert.deepStrictEqual(yield* frames(peer, 2), ["text first", `text ${text(1000)}`])
    }))

  it.effect("an interrupted suspended send leaves nothing on the wire", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openBusy({ maxQueuedMessages: 2 })
      yield* connection.send("a")
      const given = yield* start(connection.send("given up"))
      const kept = yield* start(connection.send("b"))
      assert.isTrue(yield* isWaiting(given))
      yield* Fiber.interrupt(given)
      yield* peer.demand(Infinity)
      yield* Fiber.join(kept)
      assert.deepStrictEqual(yield* frames(peer, 3), ["text first", "text a", "text b"])
    }))

  it.effect("a sender that gives up makes way for those behind it", () =>
    Effect.gen(function*() {
      const { connection } = yield* openBusy({ maxQueuedBytes: 100 })
      const large = yield* start(connection.send(text(95)))
      const small = yield* start(connection.send("y"))
      yield* Fiber.interrupt(large)
      yield* Fiber.join(small)
    }))

  it.effect("a queue without room sends what only waits for the end of the turn", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ maxQueuedMessages: 2 })
      const all = ["a", "b", "c", "d", "e"]
      for (const message of all) assert.strictEqual(connection.sendUnsafe(message), "Accepted")
      assert.deepStrictEqual(yield* frames(peer, 5), all.map((message) => `text ${message}`))
    }))
})

describe("control frames", () => {
  it.effect("§5.4: control frames overtake queued data", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openBusy()
      yield* connection.sendAll(["a", "b"])
      yield* connection.sendPing(Uint8Array.of(1))
      yield* connection.sendPong(Uint8Array.of(2))
      yield* peer.send(control(Opcode.ping, 3))
      yield* settle
      yield* peer.demand(Infinity)
      assert.deepStrictEqual(yield* frames(peer, 6), ["text first", "ping 1", "pong 2", "pong 3", "text a", "text b"])
    }))

  it.effect("§5.5.3: while the peer does not read, only the latest ping is answered", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openBusy()
      for (const payload of [1, 2, 3]) yield* peer.send(control(Opcode.ping, payload))
      yield* settle
      yield* connection.send("a")
      yield* peer.demand(Infinity)
      assert.deepStrictEqual(yield* frames(peer, 3), ["text first", "pong 3", "text a"])
      assert.strictEqual(yield* connection.queuedBytes, 0)
      yield* connection.drained
    }))

  it.effect("a pong that was sent on its own is not taken for an answer", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openBusy()
      yield* connection.sendPong(Uint8Array.of(9))
      for (const payload of [1, 2]) yield* peer.send(control(Opcode.ping, payload))
      yield* settle
      yield* peer.demand(Infinity)
      assert.deepStrictEqual(yield* frames(peer, 3), ["text first", "pong 9", "pong 2"])
    }))

  it.effect("every ping is answered while the peer reads", () =>
    Effect.gen(function*() {
      const { peer } = yield* open()
      yield* peer.send(control(Opcode.ping, 1), control(Opcode.ping), control(Opcode.ping, 3))
      assert.deepStrictEqual(yield* frames(peer, 3), ["pong 1", "pong", "pong 3"])
    }))

  it.effect("sendPing suspends while 64 control frames wait", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openBusy()
      yield* Effect.replicateEffect(connection.sendPing(), 64)
      const ping = yield* start(connection.sendPing(Uint8Array.of(1)))
      const pong = yield* start(connection.sendPong(Uint8Array.of(2)))
      const given = yield* start(connection.sendPong(Uint8Array.of(3)))
      assert.isTrue(yield* isWaiting(ping))
      assert.isTrue(yield* isWaiting(pong))
      yield* Fiber.interrupt(given)
      yield* peer.demand(Infinity)
      yield* Fiber.joinAll([ping, pong])
      assert.deepStrictEqual((yield* frames(peer, 67)).slice(64), ["ping", "ping 1", "pong 2"])
    }))
})

describe("the gauges of the queue", () => {
  it.effect.each(roles)(
    "what is accepted counts, with its header, until the transport took it (%s)",
    (role) =>
      Effect.gen(function*() {
        const { connection, peer } = yield* openStalled({ role })
        const gauges = Effect.all([connection.queuedMessages, connection.queuedBytes])
        const header = role === "server" ? 2 : 6
        assert.deepStrictEqual(yield* gauges, [0, 0])
        yield* connection.send("ü")
        assert.deepStrictEqual(yield* gauges, [1, header + 2])
        yield* settle
        yield* connection.sendAll([text(10), Message.prepare("prepared")])
        yield* connection.sendPing(Uint8Array.of(1))
        assert.deepStrictEqual(yield* gauges, [3, header + 2 + header + 10 + header + 8 + header + 1])
        yield* peer.demand(Infinity)
        yield* settle
        assert.deepStrictEqual(yield* gauges, [0, 0])
      })
  )

  it.effect("drained waits until nothing is queued", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openBusy()
      yield* connection.send("a")
      const draining = yield* start(connection.drained)
      assert.isTrue(yield* isWaiting(draining))
      yield* peer.demand(Infinity)
      yield* Fiber.join(draining)
      assert.strictEqual(yield* connection.queuedMessages, 0)
      yield* connection.drained
    }))

  it.effect("drained fails if the connection ends with something unsent, also when asked later", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openBusy()
      const draining = yield* start(reasonOf(connection.drained))
      yield* peer.reset
      assert.strictEqual(yield* Fiber.join(draining), "ConnectionNotOpen")
      assert.strictEqual(yield* reasonOf(connection.drained), "ConnectionNotOpen")
    }))

  it.effect.each([true, false])(
    "are empty behind a write within which the transport ends (taken: %s)",
    (taken) =>
      Effect.gen(function*() {
        let handler: TransportHandler | undefined
        const { connection } = yield* open({
          wrap: (transport) => ({
            ...transport,
            start: (given) => {
              handler = given
              transport.start(given)
            },
            write: () => {
              handler?.onClose(undefined)
              return taken
            }
          })
        })
        yield* connection.send("lost")
        yield* settle
        assert.deepStrictEqual([yield* connection.queuedMessages, yield* connection.queuedBytes], [0, 0])
        assert.strictEqual(yield* reasonOf(connection.drained), "ConnectionNotOpen")
      })
  )

  it.effect("drained fails if what was queued is given up", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openBusy()
      yield* connection.send("given up")
      const draining = yield* start(reasonOf(connection.drained))
      yield* peer.sendBytes(Uint8Array.of(0x83))
      yield* settle
      yield* peer.demand(Infinity)
      assert.deepStrictEqual(yield* remainingFrames(peer), ["text first", "close 1002 reserved opcode 3"])
      assert.strictEqual(yield* Fiber.join(draining), "ConnectionNotOpen")
    }))

  it.effect("drained succeeds when all was sent before the end", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      yield* connection.send("a")
      yield* settle
      yield* peer.reset
      yield* connection.closed
      yield* connection.drained
    }))
})
