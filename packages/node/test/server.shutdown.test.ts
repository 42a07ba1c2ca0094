import { type HandshakeRequest, WebSocketServer } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { connect, echo, handOver, start } from "./fixture.ts"
import { connectRaw, openingRequest, upgradeRaw } from "./rawPeer.ts"

/** A server that is shut down by `stop`. */
const startIn = Effect.fnUntraced(function*(...args: Parameters<typeof start>) {
  const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
  const started = yield* Scope.provide(start(...args), scope)
  return { ...started, stop: Scope.close(scope, Exit.void) }
})

describe("shutting a server down", () => {
  it.live("sends what was queued before the 1001", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver()
      const { stop, url } = yield* startIn(serving)
      const client = yield* connect(url)
      const connection = yield* accept
      const big = "x".repeat(1_000_000)
      yield* connection.send(big)
      const stopping = yield* Effect.forkChild(stop)
      assert.strictEqual(yield* client.receive, big)
      assert.strictEqual((yield* client.closed).code, 1001)
      yield* Fiber.join(stopping)
    }))

  it.live("waits for peers that do not read no longer than the close timeout", () =>
    Effect.gen(function*() {
      const { accept, serving } = yield* handOver()
      const { port, stop } = yield* startIn(serving, { closeTimeout: "200 millis" })
      const peer = yield* upgradeRaw(port)
      peer.socket.pause()
      const connection = yield* accept
      yield* Effect.forkChild(Effect.ignore(Effect.forever(connection.send(new Uint8Array(65536)))))
      while ((yield* connection.queuedBytes) < 900_000) yield* Effect.yieldNow
      yield* Effect.timeout(stop, "3 seconds")
      assert.deepStrictEqual({ ...(yield* connection.closed) }, {
        code: 1006,
        reason: "",
        wasClean: false,
        initiator: "Local"
      })
    }))

  it.live("accepts nobody any more while it waits", () =>
    Effect.gen(function*() {
      const { port, server, stop } = yield* startIn(echo)
      const peer = yield* upgradeRaw(port)
      const stopping = yield* Effect.forkChild(stop)
      yield* peer.frame
      const refused = yield* Effect.gen(function*() {
        const late = yield* connectRaw(port)
        yield* late.send(openingRequest())
        return yield* late.rest
      }).pipe(Effect.scoped, Effect.exit)
      assert.isTrue(Exit.isFailure(refused) || !refused.value.toString().startsWith("HTTP/1.1 101"))
      assert.strictEqual((yield* server.connections).length, 1)
      yield* peer.reset
      yield* Fiber.join(stopping)
      assert.deepStrictEqual(yield* server.connections, [])
    }))

  it.live("drops a handshake whose hook has not decided, and sockets without a request", () =>
    Effect.gen(function*() {
      const entered = yield* Deferred.make<void>()
      const interrupted = yield* Deferred.make<void>()
      const serving = WebSocketServer.serve(() => Effect.void, {
        handshake: (): Effect.Effect<{ readonly data: void }, HandshakeRequest.HandshakeRejected> =>
          Deferred.succeed(entered, undefined).pipe(
            Effect.andThen(Effect.never),
            Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
          )
      })
      const { port, stop } = yield* startIn(serving, { closeTimeout: "1 minute" })
      const idle = yield* connectRaw(port)
      const partial = yield* connectRaw(port)
      yield* partial.send("GET / HT")
      const deciding = yield* connectRaw(port)
      yield* deciding.send(openingRequest())
      yield* Deferred.await(entered)
      yield* stop
      yield* Deferred.await(interrupted)
      for (const peer of [idle, partial, deciding]) assert.strictEqual((yield* peer.rest).length, 0)
    }))
})
