import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { connect, makeClient, url } from "./fakeWebSocket.ts"
import { isWaiting, reasonOf, settle, start } from "./fixture.ts"

describe("closing the platform's WebSocket", () => {
  it.effect("what is queued leaves first; then close waits for the end of the socket", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect()
      socket.stall()
      yield* connection.send("x".repeat(300_000))
      yield* settle
      yield* connection.send("last")
      const closing = yield* start(connection.close(4001, "enough"))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(socket.calls, ["300000 bytes"])
      socket.flow()
      yield* TestClock.adjust("10 millis")
      assert.deepStrictEqual(socket.calls, ["300000 bytes", "last", "close 4001 enough"])
      assert.isTrue(yield* isWaiting(closing))
      assert.strictEqual(yield* connection.state, "Closing")
      socket.closed(4001, "enough")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(
        { ...yield* connection.closed },
        { code: 4001, reason: "enough", wasClean: true, initiator: "Local" }
      )
    }))

  it.effect("what the socket still held when it closed has left, if our Close has", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect()
      socket.stall()
      // Just not too much, until the last message and the Close leave together.
      for (const _ of [1, 2, 3, 4]) yield* Effect.andThen(connection.send("x".repeat(60_000)), settle)
      yield* connection.send("y".repeat(60_000))
      yield* start(connection.close())
      const drained = yield* start(connection.drained)
      yield* settle
      assert.deepStrictEqual(socket.calls, [...Array.from({ length: 5 }, () => "60000 bytes"), "close 1000"])
      assert.isTrue(yield* isWaiting(drained))
      socket.closed(1000)
      yield* Fiber.join(drained)
      assert.isTrue((yield* connection.closed).wasClean)
    }))

  const codes = [[1000, 1000], [1001, 1000], [1002, 4002], [1008, 4008], [1011, 4011], [1014, 4014], [3000, 3000], [
    4999,
    4999
  ]]
  it.effect.each(codes)("close code %d travels as %d", ([code, sent]) =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect()
      yield* start(connection.close(code, "why"))
      yield* settle
      assert.deepStrictEqual(socket.calls, [`close ${sent} why`])
    }))

  it.effect("§7.4, §5.5: a code or a reason that may not travel fails, and the connection goes on", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect()
      assert.strictEqual(yield* reasonOf(connection.close(1005)), "InvalidCloseCode")
      assert.strictEqual(yield* reasonOf(connection.close(4000, "ü".repeat(62))), "CloseReasonTooLong")
      yield* connection.send("goes on")
      yield* settle
      assert.deepStrictEqual(socket.calls, ["goes on"])
    }))

  const exits: ReadonlyArray<[string, Exit.Exit<void, string>, string]> = [
    ["success", Exit.void, "close 1000"],
    ["an interruption", Exit.failCause(Cause.interrupt()), "close 1000"],
    ["a failure", Exit.fail("oops"), "close 4011"],
    ["a defect", Exit.die("oops"), "close 4011"]
  ]
  it.effect.each(exits)(
    "a scope that ends with %s closes, and waits for the end",
    ([, exit, call]) =>
      Effect.gen(function*() {
        const client = makeClient()
        const scope = yield* Scope.make()
        const connecting = yield* start(Scope.provide(client.connect(url), scope))
        const socket = client.sockets[0]!
        socket.open()
        const connection = yield* Fiber.join(connecting)
        const ending = yield* start(Scope.close(scope, exit))
        assert.isTrue(yield* isWaiting(ending))
        assert.deepStrictEqual(socket.calls, [call])
        socket.closed(1000)
        yield* Fiber.join(ending)
        assert.strictEqual(yield* connection.state, "Closed")
      })
  )

  it.effect("a peer that never closes: after the close timeout the socket is given up", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect({ closeTimeout: "2 seconds" })
      const closing = yield* start(connection.close())
      yield* TestClock.adjust("1999 millis")
      assert.isTrue(yield* isWaiting(closing))
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(
        { ...yield* connection.closed },
        { code: 1006, reason: "", wasClean: false, initiator: "Local" }
      )
      // Whatever still comes of it is nobody's.
      socket.receive("late")
      socket.fail()
    }))

  it.effect("a socket that has not sent what it holds does not hold the close up", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect()
      socket.stall()
      yield* connection.send("x".repeat(300_000))
      yield* settle
      yield* connection.send("never sent")
      const drained = yield* start(reasonOf(connection.drained))
      const closing = yield* start(connection.close())
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(closing)
      assert.strictEqual(yield* Fiber.join(drained), "ConnectionNotOpen")
      const asked = socket.asked
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(socket.asked, asked)
    }))

  it.effect("abort ends the connection at once", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect()
      const receiving = yield* start(connection.receive)
      yield* connection.abort
      assert.deepStrictEqual(
        { ...yield* connection.closed },
        { code: 1006, reason: "", wasClean: false, initiator: "Local" }
      )
      assert.isTrue(Cause.isDone(yield* Effect.flip(Fiber.join(receiving))))
      assert.deepStrictEqual(socket.calls, ["close 4006"])
    }))
})

describe("the end of the platform's WebSocket", () => {
  it.effect.each([1000, 1001, 1005])("the peer closes with %d: an ordinary end", (code) =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect()
      socket.receive("before")
      socket.closed(code, code === 1005 ? "" : "bye")
      assert.deepStrictEqual(yield* Stream.runCollect(connection.messages), ["before"])
      assert.deepInclude({ ...yield* connection.closed }, { code, wasClean: true, initiator: "Remote" })
    }))

  it.effect.each([1011, 4000])("the peer closes with %d: PeerClosed", (code) =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect()
      socket.closed(code, "why")
      const error = yield* Effect.flip(Stream.runDrain(connection.messages))
      assert.strictEqual(error.reason._tag, "PeerClosed")
      assert.deepStrictEqual(
        { ...error.closeEvent },
        { code, reason: "why", wasClean: true, initiator: "Remote" }
      )
    }))

  it.effect("§7.4.2: a code that nobody may use is a ProtocolError, as over sockets", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect()
      socket.closed(2500)
      assert.strictEqual(yield* reasonOf(Stream.runDrain(connection.messages)), "ProtocolError")
    }))

  it.effect("an end that is not clean is a loss, whatever its code", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect()
      socket.closed(1000, "", false)
      assert.strictEqual(yield* reasonOf(Stream.runDrain(connection.messages)), "ConnectionLost")
      assert.deepInclude({ ...yield* connection.closed }, { code: 1006, wasClean: false, initiator: "Remote" })
    }))

  it.effect("a socket that is lost: ConnectionLost, and what was received before comes first", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect()
      socket.receive("before")
      socket.fail()
      assert.strictEqual(yield* connection.receive, "before")
      const error = yield* Effect.flip(Stream.runDrain(connection.messages))
      assert.deepInclude(error.reason, { _tag: "ConnectionLost", cause: "the platform does not tell why" })
      assert.deepInclude({ ...yield* connection.closed }, { code: 1006, initiator: "Remote" })
    }))

  it.effect("the states are told in order", () =>
    Effect.gen(function*() {
      const { connection, socket } = yield* connect()
      const states = yield* start(Stream.runCollect(connection.changes))
      yield* settle
      yield* start(connection.close())
      yield* settle
      socket.closed(1000)
      assert.deepStrictEqual(yield* Fiber.join(states), ["Open", "Closing", "Closed"])
    }))
})
