import * as BrowserWebSocketClient from "@effect-ws/core/BrowserWebSocketClient"
import type { Message } from "@effect-ws/core/Message"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import { connect } from "./fakeWebSocket.ts"
import { isWaiting, reasonOf, settle, start } from "./fixture.ts"

const block = "x".repeat(256 * 1024)

/** A connection whose socket has taken more than it should hold, so that everything else waits in the queue. */
const openStalled = Effect.fnUntraced(function*(options?: Parameters<typeof connect>[0]) {
  const opened = yield* connect(options)
  opened.socket.stall()
  yield* opened.connection.send(block + "y")
  yield* settle
  return opened
})

const taken = `${block.length + 1} bytes`

describe("sending over the platform's WebSocket", () => {
  it.effect("text and binary arrive as they are, in order", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect()
      yield* connection.send("Grüße 👋")
      yield* connection.sendAll(["", Uint8Array.of(1, 2, 3), new Uint8Array(0), "\uFEFFend"])
      yield* connection.drained
      assert.deepStrictEqual(socket.calls, ["Grüße 👋", "", "1,2,3", "", "\uFEFFend"])
    }))

  it.effect("while the socket holds more than it should, messages wait, and leave when it has sent some", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* openStalled()
      yield* connection.sendAll(["a", "b"])
      const drained = yield* start(connection.drained)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(socket.calls, [taken])
      assert.strictEqual(yield* connection.queuedMessages, 3)
      assert.isTrue(yield* isWaiting(drained))
      socket.flow()
      yield* TestClock.adjust("10 millis")
      yield* Fiber.join(drained)
      assert.deepStrictEqual(socket.calls, [taken, "a", "b"])
      assert.strictEqual(yield* connection.queuedBytes, 0)
    }))

  it.effect("the socket is asked what it holds only while something waits", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* openStalled()
      const before = socket.asked
      yield* TestClock.adjust("100 millis")
      assert.isAbove(socket.asked, before)
      socket.flow()
      yield* TestClock.adjust("10 millis")
      yield* connection.drained
      const after = socket.asked
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(socket.asked, after)
    }))

  it.effect("the socket is asked every 10 milliseconds, also if it fills up again", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* openStalled()
      for (let round = 0; round < 3; round++) {
        yield* connection.send(block + "y")
        socket.flow()
        socket.stall()
        socket.receive("an occasion to ask")
        const before = socket.asked
        yield* TestClock.adjust("1 second")
        assert.strictEqual(socket.asked, before + 100)
      }
      socket.flow()
      yield* TestClock.adjust("10 millis")
      yield* connection.drained
      socket.stall()
      yield* connection.sendAll([block + "y", "behind"])
      yield* settle
      socket.flow()
      yield* TestClock.adjust("10 millis")
      assert.deepStrictEqual(socket.calls, [taken, taken, taken, taken, taken, "behind"])
    }))

  it.effect("a message that arrives is an occasion to ask, for timers may be slow", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* openStalled()
      yield* connection.send("a")
      socket.flow()
      socket.receive("hello")
      assert.deepStrictEqual(socket.calls, [taken, "a"])
    }))

  it.effect("a full queue suspends; interrupted, nothing of the message is sent", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* openStalled({ maxQueuedMessages: 2 })
      yield* connection.send("a")
      const interrupted = yield* start(connection.send("not sent"))
      const waiting = yield* start(connection.send("b"))
      assert.isTrue(yield* isWaiting(interrupted))
      yield* Fiber.interrupt(interrupted)
      assert.isTrue(yield* isWaiting(waiting))
      socket.flow()
      yield* TestClock.adjust("10 millis")
      yield* Fiber.join(waiting)
      yield* connection.drained
      assert.deepStrictEqual(socket.calls, [taken, "a", "b"])
    }))

  it.effect("the policies fail, drop-newest and drop-oldest hold", () =>
    Effect.gen(function*() {
      const failing = yield* openStalled({ maxQueuedMessages: 2, overflow: "fail" })
      yield* failing.connection.send("a")
      assert.strictEqual(yield* reasonOf(failing.connection.send("b")), "QueueFull")
      for (const [overflow, kept] of [["drop-newest", "a"], ["drop-oldest", "b"]] as const) {
        const { connection, socket } = yield* openStalled({ maxQueuedMessages: 2, overflow })
        yield* connection.sendAll(["a", "b"])
        socket.flow()
        yield* TestClock.adjust("10 millis")
        yield* connection.drained
        assert.deepStrictEqual(socket.calls, [taken, kept])
      }
    }))

  it.effect("the policy close gives up what waits, and tells that the peer is slow", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* openStalled({ maxQueuedMessages: 2, overflow: { close: 1013 } })
      yield* connection.send("a")
      assert.strictEqual(yield* reasonOf(connection.send("b")), "ConnectionNotOpen")
      socket.flow()
      yield* TestClock.adjust("10 millis")
      assert.deepStrictEqual(socket.calls, [taken, "close 4013 slow consumer"])
      socket.closed(4013)
      assert.strictEqual(yield* reasonOf(Stream.runDrain(connection.messages)), "SlowConsumer")
    }))

  it.effect("a socket that is closing gets nothing, since it would drop it without a word", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect()
      socket.closing()
      yield* connection.send("too late")
      const drained = yield* start(reasonOf(connection.drained))
      assert.isTrue(yield* isWaiting(drained))
      socket.closed(1000)
      assert.strictEqual(yield* Fiber.join(drained), "ConnectionNotOpen")
      assert.deepStrictEqual([socket.calls, socket.swallowed], [[], []])
      assert.strictEqual(yield* reasonOf(connection.send("later still")), "ConnectionNotOpen")
    }))

  it.effect("a sender that is suspended when the socket is lost fails", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* openStalled({ maxQueuedMessages: 1 })
      const waiting = yield* start(reasonOf(connection.send("a")))
      assert.isTrue(yield* isWaiting(waiting))
      socket.fail()
      assert.strictEqual(yield* Fiber.join(waiting), "ConnectionNotOpen")
      const asked = socket.asked
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(socket.asked, asked)
    }))
})

// Each of them weighs 100 bytes.
const numbered = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => String(from + i).padEnd(68, "."))

const numbers = (messages: Iterable<Message>) => Array.from(messages, (message) => parseInt(message as string, 10))

const receiveAll = Effect.fnUntraced(function*(messages: Stream.Stream<Message, unknown>) {
  const received: Array<Message> = []
  yield* Effect.exit(Stream.runForEach(messages, (message) => Effect.sync(() => received.push(message))))
  return numbers(received)
})

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

describe("receiving over the platform's WebSocket", () => {
  it.effect("text and binary arrive as they are; a consumer that waits has them at once", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect()
      const waiting = yield* start(connection.pull)
      yield* settle
      socket.receive("Grüße 👋")
      assert.deepStrictEqual(yield* Fiber.join(waiting), ["Grüße 👋"])
      const large = new Uint8Array(40_000).map((_, i) => i)
      socket.receive("", Uint8Array.of(1, 2, 3), new Uint8Array(0), large, "\uFEFFend")
      assert.deepStrictEqual(yield* connection.pull, [
        "",
        Uint8Array.of(1, 2, 3),
        new Uint8Array(0),
        large,
        "\uFEFFend"
      ])
    }))

  it.effect("what the receive buffer has no room for is kept, and comes in order", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect({ receiveBufferBytes: 1000 })
      socket.receive(...numbered(0, 5000))
      const received: Array<Message> = []
      while (received.length < 5000) received.push(...yield* connection.pull)
      socket.receive(...numbered(5000, 5003))
      received.push(...yield* connection.pull)
      assert.deepStrictEqual(numbers(received), range(0, 5003))
      assert.strictEqual(yield* BrowserWebSocketClient.droppedMessages(connection), 0)
    }))

  it.effect("what waits when the peer closes is received before the end", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect({ receiveBufferBytes: 1000 })
      yield* connection.pause
      socket.receive(...numbered(0, 100))
      socket.closed(1000)
      assert.strictEqual((yield* connection.closed).code, 1000)
      assert.deepStrictEqual(yield* receiveAll(connection.messages), range(0, 100))
    }))

  it.effect("pause keeps what comes; resume hands it over", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect()
      yield* connection.pause
      socket.receive("a", "b")
      const waiting = yield* start(connection.pull)
      assert.isTrue(yield* isWaiting(waiting))
      yield* connection.resume
      assert.deepStrictEqual(yield* Fiber.join(waiting), ["a", "b"])
    }))

  const overrun = (unreadOverflow?: BrowserWebSocketClient.Options["unreadOverflow"]) =>
    Effect.tap(
      connect({ receiveBufferBytes: 1000 }, { maxUnreadBytes: 500, unreadOverflow }),
      ({ socket }) => Effect.sync(() => socket.receive(...numbered(0, 20)))
    )

  it.effect("more than may be kept: the connection is closed, and its stream fails behind what fitted", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* overrun()
      yield* settle
      assert.deepStrictEqual(socket.calls, ["close 4008 slow reader"])
      assert.strictEqual(yield* connection.state, "Closing")
      socket.receive("more")
      socket.closed(4008)
      const received: Array<Message> = []
      const error = yield* Effect.flip(
        Stream.runForEach(connection.messages, (message) => Effect.sync(() => received.push(message)))
      )
      assert.strictEqual(error.reason._tag, "ReceiveOverflow")
      assert.deepInclude({ ...error.closeEvent }, { code: 4008, wasClean: true, initiator: "Local" })
      assert.deepStrictEqual(numbers(received), range(0, 10))
    }))

  it.effect("more than may be kept: there is no gap, however soon there is room again", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* overrun()
      const received = [...yield* connection.pull]
      socket.receive(...numbered(20, 30))
      yield* settle
      received.push(...yield* connection.pull)
      socket.receive(...numbered(30, 40))
      socket.closed(4008)
      assert.deepStrictEqual([...numbers(received), ...yield* receiveAll(connection.messages)], range(0, 15))
    }))

  it.effect("after an abort, nothing is kept or counted any more", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect({}, { maxUnreadBytes: 500, unreadOverflow: "drop-newest" })
      yield* connection.pause
      yield* connection.abort
      socket.receive(...numbered(0, 20))
      assert.strictEqual(yield* BrowserWebSocketClient.droppedMessages(connection), 0)
    }))

  it.effect("drop-newest: what comes last is dropped, and counted", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* overrun("drop-newest")
      assert.strictEqual(yield* BrowserWebSocketClient.droppedMessages(connection), 5)
      socket.closed(1000)
      assert.deepStrictEqual(yield* receiveAll(connection.messages), range(0, 15))
    }))

  it.effect("drop-oldest: what has waited longest is dropped, and counted", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* overrun("drop-oldest")
      assert.strictEqual(yield* BrowserWebSocketClient.droppedMessages(connection), 5)
      socket.closed(1000)
      assert.deepStrictEqual(yield* receiveAll(connection.messages), [...range(0, 10), ...range(15, 20)])
    }))

  it.effect("a single message that is larger than may be kept is kept, if nothing else waits", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect({}, { maxUnreadBytes: 10 })
      yield* connection.pause
      socket.receive("a message of thirty characters")
      yield* connection.resume
      assert.strictEqual(yield* connection.receive, "a message of thirty characters")
    }))

  it.effect("the limit of messages holds, though the platform has read them already", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect({ maxMessageBytes: 100 })
      socket.receive("fits", "x".repeat(101), "late")
      yield* settle
      assert.match(socket.calls.join(), /^close 4009 /)
      socket.closed(4009)
      assert.strictEqual(yield* connection.receive, "fits")
      assert.strictEqual(yield* reasonOf(Stream.runDrain(connection.messages)), "LimitExceeded")
      assert.deepInclude({ ...yield* connection.closed }, { code: 1009, initiator: "Local" })
    }))
})
