import { WebSocketServer } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { isWaiting, start } from "./fixture.ts"
import { echo, handOver, recordLogs, serve } from "./serverFixture.ts"

/** A server that is shut down by `stop`; its clients live on. */
const serveIn = Effect.fnUntraced(function*(...args: Parameters<typeof serve>) {
  const scope = yield* Scope.make()
  const served = yield* Scope.provide(serve(...args), scope)
  return { ...served, stop: Scope.close(scope, Exit.void) }
})

describe("shutting a server down", () => {
  it.effect("tells every client 1001, and waits for them (RFC 6455, section 7.4.1)", () =>
    Effect.gen(function*() {
      const { logs, layer } = recordLogs()
      const { connect, probe, stop } = yield* Effect.provide(serveIn(echo, { closeTimeout: "1 minute" }), layer)
      const clients = yield* Effect.all([connect(), connect()])
      const peer = yield* probe()
      const stopping = yield* start(stop)
      yield* peer.expectClose(1001)
      for (const client of clients) {
        const { code, initiator, wasClean } = yield* client.closed
        assert.deepStrictEqual([code, wasClean, initiator], [1001, true, "Remote"])
        // Going away is an ordinary end.
        assert.deepStrictEqual(yield* Stream.runCollect(client.messages), [])
      }
      assert.isTrue(yield* isWaiting(stopping))
      yield* peer.sendClose(1001)
      yield* peer.end
      yield* Fiber.join(stopping)
      assert.deepStrictEqual(logs, [])
    }))

  it.effect("sends what was queued before the 1001", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver()
      const { probe, stop } = yield* serveIn(serving, { link: { bufferBytes: 0 } })
      const peer = yield* probe()
      yield* peer.demand(0)
      const connection = yield* accept
      yield* connection.sendAll(["a", "b", "c"])
      const stopping = yield* start(stop)
      yield* peer.demand(Infinity)
      for (const text of ["a", "b", "c"]) yield* peer.expectText(text)
      yield* peer.expectClose(1001)
      yield* peer.sendClose(1001)
      yield* peer.end
      yield* Fiber.join(stopping)
    }))

  it.effect.each(["silent", "not even reading"] as const)(
    "waits for peers that are %s no longer than the close timeout, for all at once",
    (what) =>
      Effect.gen(function*() {
        const { accept, serving } = yield* handOver()
        const { probe, stop } = yield* serveIn(serving, { closeTimeout: "2 seconds", link: { bufferBytes: 0 } })
        const peers = yield* Effect.replicateEffect(probe(), 20)
        const connections = yield* Effect.replicateEffect(accept, 20)
        if (what === "not even reading") {
          for (const peer of peers) yield* peer.demand(0)
          for (const connection of connections) yield* connection.sendAll(["a", "b"])
        }
        const stopping = yield* start(stop)
        yield* TestClock.adjust("1999 millis")
        assert.isTrue(yield* isWaiting(stopping))
        yield* TestClock.adjust("1 millis")
        yield* Fiber.join(stopping)
        for (const connection of connections) {
          assert.deepStrictEqual({ ...(yield* connection.closed) }, {
            code: 1006,
            reason: "",
            wasClean: false,
            initiator: "Local"
          })
        }
        if (what === "silent") { for (const peer of peers) yield* peer.expectClose(1001) }
      })
  )

  it.effect("interrupts the handlers, and each finishes before its connection is closed", () =>
    Effect.gen(function*() {
      const started = yield* Deferred.make<void>()
      const serving = WebSocketServer.serve((connection) =>
        Deferred.succeed(started, undefined).pipe(
          Effect.andThen(Effect.never),
          Effect.onInterrupt(() => Effect.ignore(connection.send("goodbye")))
        )
      )
      const { connect, stop } = yield* serveIn(serving)
      const client = yield* connect()
      yield* Deferred.await(started)
      yield* stop
      assert.strictEqual(yield* client.receive, "goodbye")
      assert.strictEqual((yield* client.closed).code, 1001)
    }))

  it.effect("accepts nobody any more while it waits", () =>
    Effect.gen(function*() {
      const { ask, probe, server, stop } = yield* serveIn(echo)
      const peer = yield* probe()
      const stopping = yield* start(stop)
      yield* peer.expectClose(1001)
      assert.strictEqual((yield* ask()).status, 503)
      assert.strictEqual((yield* server.connections).length, 1)
      yield* peer.reset
      yield* Fiber.join(stopping)
      assert.deepStrictEqual(yield* server.connections, [])
    }))

  it.effect("of one path leaves the others open", () =>
    Effect.gen(function*() {
      const { probe, server } = yield* serve(echo)
      const scope = yield* Scope.make()
      const other = WebSocketServer.serve((connection) => connection.closed, { path: "/other" })
      yield* Layer.buildWithScope(other, scope).pipe(Effect.provideService(WebSocketServer.WebSocketServer, server))
      const staying = yield* probe()
      const leaving = yield* probe("/other")
      const stopping = yield* start(Scope.close(scope, Exit.void))
      yield* leaving.expectClose(1001)
      yield* leaving.reset
      yield* Fiber.join(stopping)
      assert.strictEqual((yield* server.connections).length, 1)
      yield* staying.sendText("still there?")
      yield* staying.expectText("still there?")
    }))
})
