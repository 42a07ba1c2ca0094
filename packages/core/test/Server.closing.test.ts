import type { Transport } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { isWaiting, start } from "./fixture.ts"
import { handOver, serve } from "./serverFixture.ts"

/** Connections of one server with a close timeout of 2 seconds. */
const open = Effect.fnUntraced(function*(count: number, options: Parameters<typeof serve>[1] = {}) {
  const { accept, serving } = yield* handOver()
  const { probe } = yield* serve(serving, { closeTimeout: "2 seconds", heartbeat: false, ...options })
  const one = Effect.gen(function*() {
    const peer = yield* probe()
    return { peer, connection: yield* accept }
  })
  return yield* Effect.replicateEffect(one, count)
})

describe("connections of one server that close at different times", () => {
  it.effect("have the close timeout each, from the beginning of their own closing", () =>
    Effect.gen(function*() {
      const connections = yield* open(5)
      const close = (i: number) => start(connections[i]!.connection.close())
      const isDroppedIn = Effect.fnUntraced(function*(closing: Fiber.Fiber<void, unknown>, millis: number) {
        yield* TestClock.adjust(millis - 1)
        assert.isTrue(yield* isWaiting(closing))
        yield* TestClock.adjust(1)
        yield* Fiber.join(closing)
      })
      const first = yield* close(0)
      yield* TestClock.adjust(500)
      const second = yield* close(1)
      yield* TestClock.adjust(500)
      const third = yield* close(2)
      const { peer } = connections[1]!
      yield* peer.sendClose(1000)
      yield* peer.end
      yield* Fiber.join(second)
      yield* isDroppedIn(first, 1000)
      const fourth = yield* close(3)
      yield* isDroppedIn(third, 1000)
      yield* isDroppedIn(fourth, 1000)
      yield* TestClock.adjust("1 minute")
      yield* isDroppedIn(yield* close(4), 2000)
    }))

  it.effect("are dropped at once, if that is the close timeout, also one after the other", () =>
    Effect.gen(function*() {
      const connections = yield* open(4, { closeTimeout: 0 })
      for (const some of [connections.slice(0, 3), connections.slice(3)]) {
        const closings = yield* Effect.forEach(some, ({ connection }) => start(connection.close()))
        yield* TestClock.adjust(1)
        for (const closing of closings) yield* Fiber.join(closing)
      }
    }))

  it.effect("are dropped in time at whatever time they begin to close", () =>
    Effect.gen(function*() {
      const connections = yield* open(200)
      for (const [i, { connection }] of connections.entries()) {
        yield* TestClock.adjust(Duration.nanos(BigInt(123_457 * i)))
        const closing = yield* start(connection.close())
        yield* TestClock.adjust("2 seconds")
        yield* Fiber.join(closing)
      }
    }))

  it.effect("are dropped in time, though the transport of another throws", () =>
    Effect.gen(function*() {
      let wrapped = 0
      const destroy = {
        value(this: Transport.Transport) {
          Object.getPrototypeOf(this).destroy.call(this)
          throw new Error("wrapped")
        }
      }
      const connections = yield* open(2, {
        wrap: (transport) => wrapped++ > 0 ? transport : Object.create(transport, { destroy })
      })
      const closings = yield* Effect.forEach(connections, ({ connection }) => start(connection.close()))
      yield* TestClock.adjust("2 seconds")
      for (const closing of closings) yield* Fiber.join(closing)
    }))
})
