import { WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { LeakGuard, TestNetwork } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Layer, Scope, Stream } from "effect"

const Echo = WebSocketServer.serve((connection) =>
  Stream.runForEach(connection.messages, (message) => connection.send(message))
).pipe(Layer.provideMerge(TestNetwork.layerServer()))

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
      assert.strictEqual(error.links, 0)
      yield* Deferred.succeed(stop, undefined)
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
