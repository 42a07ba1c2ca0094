import { WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { LeakGuard, TestNetwork } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"

const Echo = WebSocketServer.serve((connection) =>
  Stream.runForEach(connection.messages, (message) => connection.send(message))
).pipe(Layer.provideMerge(TestNetwork.layerServer()))

/** What the guard says of an effect that leaves a fiber, and what ends that fiber. */
const leaving = Effect.fnUntraced(function*<A, R>(effect: Effect.Effect<Fiber.Fiber<A>, never, R>) {
  const left: Array<Fiber.Fiber<A>> = []
  const error = yield* effect.pipe(
    Effect.tap((fiber) => Effect.sync(() => left.push(fiber))),
    LeakGuard.guard,
    Effect.flip
  )
  return { error, stop: Fiber.interruptAll(left) }
})

describe("the leak guard", () => {
  it.effect("lets pass what leaves nothing: servers, clients, connections, heartbeats", () =>
    Effect.gen(function*() {
      const result = yield* Effect.gen(function*() {
        const connection = yield* WebSocketClient.connect("ws://localhost")
        yield* connection.send("hello")
        yield* Effect.forkScoped(Effect.sleep("1 hour"))
        return yield* connection.receive
      }).pipe(Effect.provide(Layer.merge(Echo, TestNetwork.layerClient)), LeakGuard.guard)
      assert.strictEqual(result, "hello")
    }).pipe(Effect.provide(TestNetwork.layerNetwork())))

  it.effect("finds a fiber that goes on, and one that sleeps", () =>
    Effect.gen(function*() {
      const stop = yield* Deferred.make<void>()
      const error = yield* Effect.flip(LeakGuard.guard(Effect.gen(function*() {
        yield* Effect.forkDetach(Deferred.await(stop))
        yield* Effect.forkDetach(Effect.raceFirst(Effect.sleep("1 hour"), Deferred.await(stop)))
      })))
      assert.isAtLeast(error.fibers, 2)
      assert.deepInclude({ ...error }, { timers: 1, links: 0 })
      yield* Deferred.succeed(stop, undefined)
    }))

  it.effect("finds a subscription to a connection that goes on", () =>
    Effect.gen(function*() {
      const connection = yield* WebSocketClient.connect("ws://localhost")
      const { changes, controls, messages } = connection
      for (const observe of [Stream.runDrain(changes), Stream.runDrain(controls), Stream.runDrain(messages)]) {
        const { error, stop } = yield* leaving(Effect.forkDetach(Effect.ignore(observe)))
        assert.deepInclude({ ...error }, { timers: 0, links: 0 })
        assert.isAtLeast(error.fibers, 1)
        yield* stop
      }
    }).pipe(Effect.provide(Layer.provideMerge(Layer.merge(Echo, TestNetwork.layerClient), TestNetwork.layerNetwork()))))

  it.effect("lets the time of a test pass", () =>
    Effect.gen(function*() {
      const sleeping = yield* Effect.forkChild(Effect.sleep("1 hour"))
      yield* TestClock.adjust("1 hour")
      yield* Fiber.join(sleeping)
    }).pipe(LeakGuard.guard))

  it.live("counts the timers of the real clock", () =>
    Effect.gen(function*() {
      const { error, stop } = yield* leaving(Effect.gen(function*() {
        yield* Effect.sleep(1)
        yield* Effect.orDie(Effect.timeout(Effect.void, "1 minute"))
        return yield* Effect.forkDetach(Effect.sleep("1 minute"), { startImmediately: true })
      }))
      assert.strictEqual(error.timers, 1)
      yield* stop
    }))

  it.effect("finds a connection that nobody closes", () =>
    Effect.gen(function*() {
      const forgotten = yield* Scope.make()
      const error = yield* WebSocketClient.connect("ws://localhost").pipe(
        Scope.provide(forgotten),
        LeakGuard.guard,
        Effect.flip
      )
      assert.deepInclude({ ...error }, { _tag: "LeakError", links: 1 })
      yield* Scope.close(forgotten, Exit.void)
    }).pipe(Effect.provide(Layer.provideMerge(Layer.merge(Echo, TestNetwork.layerClient), TestNetwork.layerNetwork()))))

  it.effect("does not hide the failure of the test itself", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        LeakGuard.guard(Effect.andThen(Effect.forkDetach(Effect.never), Effect.fail("no")))
      )
      assert.strictEqual(error, "no")
    }))
})
