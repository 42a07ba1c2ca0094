import * as Connection from "@effect-ws/core/Connection"
import type { Heartbeat } from "@effect-ws/core/Heartbeat"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Scheduler, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import {
  answerClose,
  frames,
  handshake,
  isWaiting,
  link,
  open,
  openStalled,
  remainingFrames,
  settle,
  start
} from "./fixture.ts"

/** A connection in a scope of its own. */
const openIn = Effect.fnUntraced(function*(scope: Scope.Scope, options: Connection.SettingsOptions = {}) {
  const { peer, transport } = yield* link("client")
  const settings = yield* Connection.settings(options)
  const connection = yield* Scope.provide(Connection.make(transport, settings, { handshake }), scope)
  yield* Effect.addFinalizer(() => peer.reset)
  return { connection, peer }
})

describe("the scope of a connection", () => {
  it.effect.each([
    { what: "success", exit: Exit.void, code: 1000 },
    { what: "interruption", exit: Exit.interrupt(1), code: 1001 },
    { what: "failure", exit: Exit.fail("broken"), code: 1011 },
    { what: "defect", exit: Exit.die("broken"), code: 1011 }
  ])(
    "§7.4.1: on $what it closes the connection with $code, and waits for the end",
    ({ code, exit }) =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const { connection, peer } = yield* openIn(scope)
        const closing = yield* start(Scope.close(scope, exit))
        assert.deepStrictEqual(yield* frames(peer, 1), [`close ${code}`])
        assert.isTrue(yield* isWaiting(closing))
        yield* peer.sendClose(code)
        yield* peer.end
        yield* Fiber.join(closing)
        assert.deepInclude(yield* connection.closed, { code, wasClean: true, initiator: "Local" })
      })
  )

  it.effect("closing it is bounded by the close timeout", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      yield* openIn(scope, { closeTimeout: "2 seconds" })
      const closing = yield* start(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("1999 millis")
      assert.isTrue(yield* isWaiting(closing))
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(closing)
    }))

  it.effect("closing it during a close waits for that one", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { connection, peer } = yield* openIn(scope)
      yield* start(connection.close(4001))
      const closing = yield* start(Scope.close(scope, Exit.void))
      assert.strictEqual(yield* answerClose(peer), "close 4001")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* remainingFrames(peer), [])
    }))

  it.effect("closing it after the end takes no time", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { connection, peer } = yield* openIn(scope)
      yield* peer.reset
      yield* connection.closed
      yield* Scope.close(scope, Exit.fail("broken"))
    }))

  it.effect("the peer's Close is found however much it sends before, and nothing is kept", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { connection, peer } = yield* openIn(scope, { receiveBufferBytes: 100 })
      yield* connection.pause
      yield* peer.sendText(...Array.from({ length: 5000 }, () => "message"))
      const closing = yield* start(Scope.close(scope, Exit.void))
      yield* answerClose(peer)
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* Stream.runCollect(connection.messages), [])
    }))

  it.effect("closing it ends those who wait", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { connection, peer } = yield* openIn(scope)
      const receiving = yield* start(Stream.runCollect(connection.messages))
      const pinging = yield* start(Effect.flip(connection.ping))
      const watching = yield* start(Stream.runCollect(connection.controls))
      yield* frames(peer, 1)
      const closing = yield* start(Scope.close(scope, Exit.void))
      yield* answerClose(peer)
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* Fiber.join(receiving), [])
      assert.strictEqual((yield* Fiber.join(pinging)).reason._tag, "ConnectionNotOpen")
      assert.deepStrictEqual(yield* Fiber.join(watching), [])
    }))
})

describe("abort", () => {
  it.effect("drops the socket at once, without a Close", () =>
    Effect.gen(function*() {
      const { connection, peer, wire } = yield* openStalled()
      yield* connection.send("first")
      yield* settle
      yield* connection.send("a")
      yield* connection.abort
      assert.deepStrictEqual(wire.calls, ["destroy"])
      assert.deepStrictEqual({ ...yield* connection.closed }, {
        code: 1006,
        reason: "",
        wasClean: false,
        initiator: "Local"
      })
      assert.deepStrictEqual(yield* remainingFrames(peer), [])
    }))

  it.effect("cuts a close short", () =>
    Effect.gen(function*() {
      const { connection } = yield* open()
      const closing = yield* start(connection.close())
      yield* connection.abort
      yield* Fiber.join(closing)
    }))
})

describe("state", () => {
  const watch = (connection: Connection.Connection) => start(Stream.runCollect(connection.changes))

  it.effect("changes tells the current state and those that follow, until Closed", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const fromOpen = yield* watch(connection)
      yield* settle
      assert.strictEqual(yield* connection.state, "Open")
      yield* start(connection.close())
      assert.strictEqual(yield* connection.state, "Closing")
      const fromClosing = yield* watch(connection)
      yield* answerClose(peer)
      yield* connection.closed
      assert.strictEqual(yield* connection.state, "Closed")
      assert.deepStrictEqual(yield* Fiber.join(fromOpen), ["Open", "Closing", "Closed"])
      assert.deepStrictEqual(yield* Fiber.join(fromClosing), ["Closing", "Closed"])
      assert.deepStrictEqual(yield* Stream.runCollect(connection.changes), ["Closed"])
    }))

  it.effect("a lost connection is Closed without having been Closing", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open()
      const watching = yield* watch(connection)
      yield* settle
      yield* peer.reset
      assert.deepStrictEqual(yield* Fiber.join(watching), ["Open", "Closed"])
    }))

  it.effect("an observer that begins at any moment of the end learns of it", () =>
    Effect.forEach(Array.from({ length: 60 }, (_, index) => index), (steps) =>
      Effect.scoped(Effect.gen(function*() {
        const { connection, peer } = yield* open()
        // A fiber that has to yield again and again can be overtaken anywhere.
        const watching = yield* Stream.runCollect(connection.changes).pipe(
          Effect.provideService(Scheduler.MaxOpsBeforeYield, 4),
          start
        )
        yield* Effect.replicateEffect(Effect.yieldNow, steps)
        yield* peer.reset
        const states = yield* Fiber.join(watching)
        assert.strictEqual(states.at(-1), "Closed")
        return states.length
      }))))
})

describe("what a connection leaves behind", () => {
  /** A clock that knows who sleeps by it. */
  const watchedClock = Effect.map(Clock.Clock, (clock) => {
    const sleeping = { count: 0 }
    const watched: Clock.Clock = {
      ...clock,
      sleep: (duration) =>
        Effect.acquireUseRelease(
          Effect.sync(() => sleeping.count++),
          () => clock.sleep(duration),
          () => Effect.sync(() => sleeping.count--)
        )
    }
    return { sleeping, watched }
  })

  it.effect("an open connection has no timer", () =>
    Effect.gen(function*() {
      const { sleeping, watched } = yield* watchedClock
      yield* Effect.provideService(open(), Clock.Clock, watched)
      assert.strictEqual(sleeping.count, 0)
    }))

  it.effect.each(["clean", "lost", "timeout", "abort", "violation"] as const)(
    "no timer and no heartbeat after the end (%s)",
    (how) =>
      Effect.gen(function*() {
        const { sleeping, watched } = yield* watchedClock
        const members = new Set<ReturnType<Heartbeat["add"]>>()
        const heartbeat: Heartbeat = {
          add: () => {
            const place = { index: 0 }
            members.add(place)
            return place
          },
          remove: (place) => void members.delete(place)
        }
        const { connection, peer } = yield* Effect.provideService(open({ heartbeat }), Clock.Clock, watched)
        assert.strictEqual(members.size, 1)
        if (how === "clean" || how === "timeout") yield* start(connection.close())
        if (how === "violation") yield* peer.sendBytes(Uint8Array.of(0xff))
        yield* settle
        assert.strictEqual(sleeping.count, how === "lost" || how === "abort" ? 0 : 1)
        if (how === "clean" || how === "violation") yield* peer.sendClose(1000)
        if (how === "timeout") yield* TestClock.adjust("5 seconds")
        else if (how === "lost") yield* peer.reset
        else if (how === "abort") yield* connection.abort
        else yield* peer.end
        yield* connection.closed
        yield* settle
        assert.strictEqual(sleeping.count, 0)
        assert.strictEqual(members.size, 0)
      })
  )
})

describe("wrap", () => {
  it.effect("is put around the transport once, with what the handshake settled", () =>
    Effect.gen(function*() {
      const seen: Array<Connection.HandshakeResult> = []
      let bytes = 0
      const { connection, peer } = yield* open({
        wrap: (transport, handshake) => {
          seen.push(handshake)
          return {
            ...transport,
            start: (handler) => transport.start(handler),
            write: (chunks) => {
              for (const chunk of chunks) bytes += chunk.length
              return transport.write(chunks)
            }
          }
        }
      })
      yield* connection.send("hello")
      yield* peer.expectText("hello")
      assert.deepStrictEqual(seen, [handshake])
      assert.strictEqual(bytes, 7)
    }))

  it.effect("that throws is a defect, and leaves no transport behind", () =>
    Effect.gen(function*() {
      const { peer, transport } = yield* link("client")
      const wrap = () => {
        throw new Error("broken")
      }
      const settings = yield* Connection.settings({ wrap })
      const exit = yield* Effect.exit(Effect.scoped(Connection.make(transport, settings, { handshake })))
      assert.isTrue(Exit.hasDies(exit))
      yield* peer.expectEnd
    }))
})
