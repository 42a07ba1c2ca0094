import { Reconnect } from "@effect-ws/core"
import { LeakGuard, TestNetwork, VirtualTime, WebSocketProbe } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { answerClose, frames, isWaiting, settle, start } from "./fixture.ts"
import { network, open, opened, until } from "./reconnect.ts"

describe("close", () => {
  it.effect("closes the current connection with its code, and messages end behind what came before", () =>
    Effect.gen(function*() {
      const { client, nextRequest, peer } = yield* opened()
      yield* peer.sendText("a", "b")
      yield* settle
      const closing = yield* start(client.close(4000, "enough"))
      assert.strictEqual((yield* Effect.flip(client.send("late"))).reason._tag, "ConnectionNotOpen")
      yield* peer.sendText("c")
      assert.strictEqual(yield* answerClose(peer), "close 4000 enough")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(yield* Stream.runCollect(client.messages), ["a", "b", "c"])
      assert.deepStrictEqual(yield* client.state, { _tag: "Closed", error: undefined })
      yield* client.closed
      const asked = yield* start(nextRequest)
      yield* TestClock.adjust("1 hour")
      assert.isTrue(yield* isWaiting(asked))
    }).pipe(Effect.provide(network)))

  it.effect("sends what is buffered first", () =>
    Effect.gen(function*() {
      const { client, peer } = yield* opened()
      const { linkOf } = yield* TestNetwork.TestNetwork
      const { connection } = yield* until(client, "Open")
      const link = yield* linkOf(connection)
      yield* link.set({ flow: "stalled", bufferBytes: 0 }, "toServer")
      const large = "x".repeat(60_000)
      yield* client.sendAll(Array.from({ length: 10 }, () => large))
      assert.strictEqual(yield* connection.queuedMessages, 2)
      const waiting = yield* start(client.close())
      yield* settle
      yield* link.set({ flow: "open", bufferBytes: 65_536 }, "toServer")
      assert.deepStrictEqual(yield* frames(peer, 10), Array.from({ length: 10 }, () => `text ${large}`))
      yield* answerClose(peer)
      yield* Fiber.join(waiting)
    }).pipe(Effect.provide(network)))

  it.effect("takes at most the close timeout when the peer is gone", () =>
    Effect.gen(function*() {
      const { client } = yield* opened()
      const { set } = yield* TestNetwork.TestNetwork
      yield* set({ flow: "cut" })
      const closing = yield* start(client.close())
      yield* TestClock.adjust("4999 millis")
      assert.isTrue(yield* isWaiting(closing))
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(closing)
    }).pipe(Effect.provide(network)))

  it.effect("without a connection it ends at once, and what is buffered is discarded", () =>
    Effect.gen(function*() {
      const { client, peer } = yield* opened({ maxQueuedMessages: 1 })
      yield* peer.reset
      yield* until(client, "Waiting")
      yield* client.send("a")
      const sending = yield* start(Effect.flip(client.send("b")))
      const receiving = yield* start(Stream.runCollect(client.messages))
      yield* client.close()
      assert.strictEqual((yield* Fiber.join(sending)).reason._tag, "ConnectionNotOpen")
      assert.deepStrictEqual(yield* Fiber.join(receiving), [])
      assert.strictEqual(yield* client.queuedMessages, 0)
      assert.strictEqual(yield* client.queuedBytes, 0)
    }).pipe(Effect.provide(network)))

  it.effect("a code or reason that may not travel fails and changes nothing (§7.4, §5.5)", () =>
    Effect.gen(function*() {
      const { client } = yield* opened()
      assert.strictEqual((yield* Effect.flip(client.close(1006))).reason._tag, "InvalidCloseCode")
      assert.strictEqual((yield* Effect.flip(client.close(1000, "x".repeat(124)))).reason._tag, "CloseReasonTooLong")
      assert.strictEqual((yield* client.state)._tag, "Open")
    }).pipe(Effect.provide(network)))

  it.effect("may be repeated; the first one counts, and interrupting it does not stop the closing", () =>
    Effect.gen(function*() {
      const { client, peer } = yield* opened()
      const first = yield* start(client.close(4000))
      yield* Fiber.interrupt(first)
      const second = yield* start(client.close(4001))
      assert.strictEqual(yield* answerClose(peer), "close 4000")
      yield* Fiber.join(second)
    }).pipe(Effect.provide(network)))

  it.effect("may be called by onConnect", () =>
    Effect.gen(function*() {
      const self = yield* Deferred.make<Reconnect.ReconnectingConnection>()
      const { accept, client } = yield* open({
        onConnect: () => Effect.flatMap(Deferred.await(self), (client) => client.close(4000))
      })
      yield* Deferred.succeed(self, client)
      assert.strictEqual(yield* answerClose(yield* accept), "close 4000")
      yield* client.closed
    }).pipe(Effect.provide(network)))
})

describe("the scope", () => {
  it.effect.each([
    { what: "success", exit: Exit.void, code: 1000 },
    { what: "interruption", exit: Exit.interrupt(1), code: 1001 },
    { what: "failure", exit: Exit.fail("broken"), code: 1011 }
  ])(
    "closes the current connection on $what with $code, behind what is buffered",
    ({ code, exit }) =>
      Effect.gen(function*() {
        const { linkOf } = yield* TestNetwork.TestNetwork
        const nextRequest = yield* WebSocketProbe.listen()
        const scope = yield* Scope.make()
        const client = yield* Scope.provide(Reconnect.connect("ws://test"), scope)
        const peer = yield* Effect.flatMap(nextRequest, (request) => request.accept())
        const link = yield* Effect.flatMap(until(client, "Open"), ({ connection }) => linkOf(connection))
        yield* link.set({ flow: "stalled", bufferBytes: 0 }, "toServer")
        yield* client.sendAll(["x".repeat(70_000), "y".repeat(70_000), "z"])
        const reading = yield* start(Stream.runDrain(client.messages))
        const closing = yield* start(Scope.close(scope, exit))
        assert.strictEqual((yield* Effect.flip(client.send("late"))).reason._tag, "ConnectionNotOpen")
        yield* link.set({ flow: "open", bufferBytes: 65_536 }, "toServer")
        assert.deepStrictEqual((yield* frames(peer, 3)).map((text) => text.slice(0, 6)), ["text x", "text y", "text z"])
        assert.strictEqual(yield* answerClose(peer), `close ${code}`)
        yield* Fiber.join(closing)
        yield* Fiber.join(reading)
        assert.deepStrictEqual(yield* client.state, { _tag: "Closed", error: undefined })
      }).pipe(Effect.provide(network))
  )
})

// What a client does when it is ended, and what it takes to get there.
const stages: Record<string, {
  readonly options?: Reconnect.Options
  readonly target?: Effect.Effect<Reconnect.Target>
  readonly reach: (opening: Effect.Success<ReturnType<typeof open>>) => Effect.Effect<unknown, unknown, Scope.Scope>
}> = {
  "computes its target": { target: Effect.never, reach: () => settle },
  "connects": { reach: ({ nextRequest }) => nextRequest },
  "runs onConnect": {
    options: { onConnect: () => Effect.never },
    reach: ({ accept }) => Effect.andThen(accept, settle)
  },
  "sends without a connection": {
    options: { maxQueuedMessages: 1 },
    reach: ({ client }) => Effect.forkScoped(Effect.ignore(client.sendAll(["a", "b"])), { startImmediately: true })
  },
  "receives without a connection": {
    reach: ({ client }) => Effect.forkScoped(Stream.runDrain(client.messages), { startImmediately: true })
  },
  "receives": {
    reach: ({ accept, client }) =>
      Effect.gen(function*() {
        yield* Effect.forkScoped(Stream.runDrain(client.messages), { startImmediately: true })
        yield* Effect.andThen(accept, until(client, "Open"))
      })
  },
  "sends over a socket that takes nothing": {
    options: { maxQueuedMessages: 1 },
    reach: ({ accept, client }) =>
      Effect.gen(function*() {
        const peer = yield* accept
        yield* until(client, "Open")
        yield* peer.demand(0)
        const large = "x".repeat(100_000)
        yield* Effect.forkScoped(Effect.ignore(client.sendAll(Array.from({ length: 9 }, () => large))), {
          startImmediately: true
        })
        yield* settle
        assert.isAbove(yield* client.queuedMessages, 1)
      })
  },
  "is observed, and waits for the next attempt": {
    reach: ({ client, nextRequest }) =>
      Effect.gen(function*() {
        yield* Effect.forkScoped(Stream.runDrain(client.changes), { startImmediately: true })
        yield* Effect.flatMap(nextRequest, (request) => request.reject({ status: 503, headers: {}, body: "" }))
        yield* until(client, "Waiting")
      })
  },
  "waits for its consumer": {
    options: { receiveBufferBytes: 10 },
    reach: ({ accept, client }) =>
      Effect.gen(function*() {
        const peer = yield* accept
        yield* until(client, "Open")
        yield* peer.sendText("a", "b")
        yield* settle
        yield* peer.reset
        yield* until(client, "Waiting")
        yield* TestClock.adjust("10 seconds")
      })
  },
  "closes a connection whose onConnect failed": {
    options: { onConnect: () => Effect.fail("no") },
    reach: ({ accept }) => Effect.flatMap(accept, (peer) => peer.expectClose(1011))
  }
}

describe("ended while it", () => {
  for (const [name, { options, reach, target }] of Object.entries(stages)) {
    it.effect.each(["by its scope", "by close", "by an interruption"] as const)(
      `${name}: nothing is left (%s)`,
      (how) =>
        Effect.gen(function*() {
          const reached = yield* Deferred.make<void>()
          const program = Effect.gen(function*() {
            const opening = yield* open(options, target ?? "ws://test")
            yield* reach(opening)
            yield* Deferred.succeed(reached, undefined)
            if (how === "by an interruption") return yield* Effect.never
            if (how === "by close") yield* opening.client.close()
            return opening.client
          }).pipe(Effect.scoped)
          if (how === "by an interruption") {
            const running = yield* start(program)
            yield* Deferred.await(reached)
            return yield* Fiber.interrupt(running)
          }
          const client = yield* program
          assert.deepStrictEqual(yield* client.state, { _tag: "Closed", error: undefined })
        }).pipe(VirtualTime.passing, LeakGuard.guard, Effect.provide(network))
    )
  }
})
