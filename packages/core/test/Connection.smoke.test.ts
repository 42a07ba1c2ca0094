import * as Connection from "@effect-ws/core/Connection"
import { TestPeer } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope, Stream } from "effect"

const handshake: Connection.HandshakeResult = {
  subprotocol: undefined,
  extensions: [],
  request: { url: "/", headers: {} },
  response: { status: 101, headers: {} }
}

describe("Connection", () => {
  it.effect("echo", () =>
    Effect.gen(function*() {
      const peer = yield* TestPeer.make("client")
      const scope = yield* Scope.make()
      const connection = yield* Connection.make(peer.transport, { handshake }).pipe(Scope.provide(scope))
      const fiber = yield* connection.messages.pipe(
        Stream.runForEach((m) => connection.send(m)),
        Effect.forkChild
      )
      yield* peer.sendText("a", "b", "ü")
      for (const s of ["a", "b", "ü"]) {
        const f = yield* peer.frame
        assert.strictEqual(new TextDecoder().decode(f.payload), s)
      }
      const closing = yield* Scope.close(scope, Exit.void).pipe(Effect.forkChild)
      const f = yield* peer.frame
      assert.deepStrictEqual([...f.payload], [3, 232])
      yield* peer.sendClose(1000)
      yield* Effect.flip(peer.frame)
      yield* peer.end
      yield* Fiber.join(fiber)
      yield* Fiber.join(closing)
      const event = yield* connection.closed
      assert.deepStrictEqual({ ...event }, { code: 1000, reason: "", wasClean: true, initiator: "Local" })
    }))
})
