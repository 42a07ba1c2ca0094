import type { Connection } from "@effect-ws/core/Connection"
import type { Heartbeat } from "@effect-ws/core/Heartbeat"
import { Opcode } from "@effect-ws/core/protocol/Frame"
import type { TransportHandler } from "@effect-ws/core/Transport"
import type { ConnectionError } from "@effect-ws/core/WebSocketError"
import { Wire } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import { control, frames, open, openStalled, type Options, remainingFrames, settle, start } from "./fixture.ts"

/** All messages, and how the stream of them ended: "end", or the tag of the reason it failed with, and the close event. */
const collect = (connection: Connection) =>
  Effect.gen(function*() {
    const messages: Array<unknown> = []
    const end = yield* connection.messages.pipe(
      Stream.runForEach((message) => Effect.sync(() => messages.push(message))),
      Effect.match({
        onSuccess: () => "end",
        onFailure: ({ closeEvent, reason }: ConnectionError) => ({ reason: reason._tag, closeEvent: { ...closeEvent } })
      })
    )
    return { messages, end }
  })

describe("the end of what is received", () => {
  it.effect.each([1000, 1001, undefined])(
    "an ordinary close by the peer ends the stream (%s)",
    (code) =>
      Effect.gen(function*() {
        const { connection, peer } = yield* open()
        yield* peer.sendText("a", "b")
        yield* peer.sendClose(code)
        yield* peer.end
        yield* connection.closed
        assert.deepStrictEqual(yield* collect(connection), { messages: ["a", "b"], end: "end" })
      })
  )

  it.effect("a close by this side ends the stream", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const collecting = yield* start(collect(connection))
      yield* start(connection.close(4000, "done"))
      yield* peer.sendText("a")
      yield* peer.sendClose(4000, "done")
      yield* peer.end
      assert.deepStrictEqual(yield* Fiber.join(collecting), { messages: ["a"], end: "end" })
    }))

  it.effect("§7.4.1: any other code is the failure PeerClosed", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      yield* peer.sendText("a")
      yield* peer.sendClose(1011, "out of order")
      yield* peer.end
      assert.deepStrictEqual(yield* collect(connection), {
        messages: ["a"],
        end: {
          reason: "PeerClosed",
          closeEvent: { code: 1011, reason: "out of order", wasClean: true, initiator: "Remote" }
        }
      })
    }))

  it.effect.each(["reset", "end"] as const)(
    "§7.1.5: without a Close, the connection is lost (%s)",
    (how) =>
      Effect.gen(function*() {
        const { connection, peer } = yield* open()
        yield* peer.sendText("a")
        yield* settle
        yield* peer[how]
        assert.deepStrictEqual(yield* collect(connection), {
          messages: ["a"],
          end: {
            reason: "ConnectionLost",
            closeEvent: { code: 1006, reason: "", wasClean: false, initiator: "Remote" }
          }
        })
      })
  )

  it.effect("a lost connection tells the cause that the transport gave", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      yield* peer.reset
      const { reason } = yield* Effect.flip(Stream.runDrain(connection.messages))
      assert.strictEqual(reason._tag === "ConnectionLost" && String(reason.cause), "Error: connection reset")
    }))

  it.effect.each([
    {
      what: "a reserved opcode",
      bytes: [0x83, 0x80, 0, 0, 0, 0],
      reason: "ProtocolError" as const,
      code: 1002,
      detail: "reserved opcode 3"
    },
    {
      what: "text that is not UTF-8",
      bytes: [0x81, 0x81, 0, 0, 0, 0, 0xff],
      reason: "InvalidPayload" as const,
      code: 1007,
      detail: "text is not UTF-8"
    },
    {
      what: "a message that is too big",
      bytes: [0x82, 0xfe, 0x04, 0x01, 0, 0, 0, 0],
      reason: "LimitExceeded" as const,
      code: 1009,
      detail: "message exceeds 1024 bytes"
    }
  ])(
    "§7.1.7: $what is answered with its code, and what came before it is delivered",
    ({ bytes, code, detail, reason }) =>
      Effect.gen(function*() {
        const { connection, peer } = yield* open({ maxMessageBytes: 1024 })
        const before = Wire.encode("client", [Wire.text("a")])
        yield* peer.sendBytes(Uint8Array.from([...before, ...bytes]))
        yield* peer.sendText("ignored")
        assert.deepStrictEqual(yield* remainingFrames(peer), [`close ${code} ${detail}`])
        yield* peer.end
        assert.deepStrictEqual(yield* collect(connection), {
          messages: ["a"],
          end: { reason, closeEvent: { code, reason: detail, wasClean: false, initiator: "Local" } }
        })
      })
  )

  it.effect("§7.4.1: a message longer than any string is too big, whatever the limit", () =>
    Effect.gen(function*() {
      const { peer } = yield* open({ maxMessageBytes: Infinity })
      yield* peer.send(Wire.text("", { announced: 2 ** 29 }))
      assert.deepStrictEqual(yield* remainingFrames(peer), ["close 1009 message exceeds 536870888 bytes"])
    }))

  it.effect("§5.1: a client fails the connection when a server masks", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ role: "client" })
      yield* peer.sendBytes(Wire.encode("client", [Wire.text("a")]))
      assert.deepStrictEqual(yield* remainingFrames(peer), ["close 1002 server frame with mask"])
      yield* peer.end
      const error = yield* Effect.flip(connection.pull)
      assert.strictEqual(error._tag === "ConnectionError" && error.reason._tag, "ProtocolError")
    }))

  it.effect.each([
    { what: "fragments", frames: Array.from({ length: 4 }, () => ({ ...Wire.text(""), fin: false })) },
    { what: "control frames", frames: Array.from({ length: 4 }, () => control(Opcode.pong)) }
  ])("too many $what are answered with 1008", ({ frames: sent }) =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ maxFragments: 3, maxControlFramesPerSecond: 3 })
      yield* peer.send(...sent.map((frame, index) =>
        index > 0 && frame.opcode === Opcode.text ? { ...frame, opcode: Opcode.continuation } : frame
      ))
      const [close] = yield* frames(peer, 1)
      assert.match(close!, /^close 1008 /)
      yield* peer.end
      const error = yield* Effect.flip(connection.pull)
      assert.strictEqual(error._tag === "ConnectionError" && error.reason._tag, "LimitExceeded")
    }))

  it.effect("control frames below the rate are no violation", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ maxControlFramesPerSecond: 3 })
      for (let second = 0; second < 3; second++) {
        yield* peer.send(control(Opcode.pong), control(Opcode.pong), control(Opcode.pong))
        yield* TestClock.adjust("1 second")
      }
      assert.strictEqual(yield* connection.state, "Open")
    }))

  it.effect("§7.1.7: a violation is told ahead of what waits to be sent", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openStalled()
      yield* connection.send("in flight")
      yield* settle
      yield* connection.send("waiting")
      yield* peer.sendBytes(Uint8Array.of(0x83))
      yield* settle
      yield* peer.demand(Infinity)
      assert.deepStrictEqual(yield* remainingFrames(peer), [
        "text in flight",
        "close 1002 reserved opcode 3"
      ])
    }))

  it.effect("every consumer gets the end, as often as it asks", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const waiting = yield* start(Effect.all([Effect.flip(connection.pull), Effect.flip(connection.receive)], {
        concurrency: 2
      }))
      yield* peer.sendClose(1000)
      yield* peer.end
      assert.isTrue((yield* Fiber.join(waiting)).every(Cause.isDone))
      assert.isTrue(Cause.isDone(yield* Effect.flip(connection.receive)))
      assert.deepStrictEqual(yield* collect(connection), { messages: [], end: "end" })
    }))

  it.effect("an ordinary close by the peer is one even if our answer never reaches it", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openStalled()
      yield* connection.send("in flight")
      yield* settle
      yield* peer.sendClose(1000)
      const collecting = yield* start(collect(connection))
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* Fiber.join(collecting), { messages: [], end: "end" })
      assert.deepInclude(yield* connection.closed, { code: 1000, wasClean: false })
    }))

  it.effect("SlowConsumer: the overflow policy closed the connection", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openStalled({ maxQueuedMessages: 1, overflow: { close: 1013 } })
      yield* connection.send("in flight")
      yield* settle
      yield* Effect.flip(connection.send("too much"))
      yield* peer.demand(Infinity)
      assert.deepStrictEqual(yield* frames(peer, 2), ["text in flight", "close 1013 slow consumer"])
      yield* peer.sendClose(1013)
      yield* peer.end
      assert.deepStrictEqual(yield* collect(connection), {
        messages: [],
        end: { reason: "SlowConsumer", closeEvent: { code: 1013, reason: "", wasClean: true, initiator: "Local" } }
      })
    }))

  it.effect("HeartbeatTimeout: the heartbeat gave the connection up", () =>
    Effect.gen(function*() {
      const heartbeat: Heartbeat = {
        add: (member) => {
          member.heartbeatLost()
          return { index: 0 }
        },
        remove: () => {}
      }
      const { connection } = yield* open({ heartbeat })
      assert.deepStrictEqual(yield* collect(connection), {
        messages: [],
        end: { reason: "HeartbeatTimeout", closeEvent: { code: 1006, reason: "", wasClean: false, initiator: "Local" } }
      })
    }))

  describe("a transport that ends within a write", () => {
    const openFragile = (options: Options) =>
      open({
        ...options,
        wrap: (transport) => {
          let handler: TransportHandler | undefined
          return {
            ...transport,
            start: (given) => {
              handler = given
              transport.start(given)
            },
            write: () => {
              handler!.onClose(new Error("reset"))
              return true
            }
          }
        }
      })

    it.effect.each(["drop-oldest", "drop-newest", "fail"] as const)(
      "a message that there was no room for before is not accepted (%s)",
      (overflow) =>
        Effect.gen(function*() {
          const { connection } = yield* openFragile({ overflow, maxQueuedMessages: 1 })
          assert.strictEqual(connection.sendUnsafe("abc"), "Accepted")
          assert.strictEqual(connection.sendUnsafe("def"), "NotOpen")
          assert.deepStrictEqual([yield* connection.queuedMessages, yield* connection.queuedBytes], [0, 0])
        })
    )
  })

  it.effect("an aborted connection ends the stream: this side wanted it", () =>
    Effect.gen(function*() {
      const { connection } = yield* open()
      const collecting = yield* start(collect(connection))
      yield* connection.abort
      assert.deepStrictEqual(yield* Fiber.join(collecting), { messages: [], end: "end" })
    }))
})
