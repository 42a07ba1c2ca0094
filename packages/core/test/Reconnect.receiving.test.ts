import { MessageCodec, TypedConnection } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Schema, Stream } from "effect"
import { TestClock } from "effect/testing"
import { frames, isWaiting, settle, start } from "./fixture.ts"
import { network, open, opened, until } from "./reconnect.ts"

describe("receiving", () => {
  it.effect("one stream goes on over all connections, and a read of a socket stays one chunk", () =>
    Effect.gen(function*() {
      const { accept, client, peer } = yield* opened()
      const chunks: Array<ReadonlyArray<unknown>> = []
      const reading = yield* start(
        Stream.runForEachArray(client.messages, (chunk) => Effect.sync(() => chunks.push([...chunk])))
      )
      yield* peer.sendText("a", "b")
      yield* settle
      yield* peer.sendText("c")
      yield* settle
      yield* peer.reset
      yield* until(client, "Waiting")
      yield* TestClock.adjust("1 second")
      const second = yield* accept
      yield* second.sendText("d", "e")
      yield* second.close(1000)
      yield* Fiber.join(reading)
      assert.deepStrictEqual(chunks, [["a", "b"], ["c"], ["d", "e"]])
    }).pipe(Effect.provide(network)))

  it.effect("what a lost connection left unread comes first, in order, however it is taken", () =>
    Effect.gen(function*() {
      const { accept, client, peer } = yield* opened()
      yield* peer.sendText("a", "b", "c")
      yield* settle
      assert.strictEqual(yield* client.receive, "a")
      yield* peer.reset
      yield* until(client, "Waiting")
      yield* TestClock.adjust("1 second")
      const second = yield* accept
      yield* second.sendText("d", "e")
      yield* until(client, "Open")
      yield* settle
      assert.strictEqual(yield* client.receive, "b")
      assert.deepStrictEqual(yield* client.pull, ["c"])
      assert.deepStrictEqual(yield* client.pull, ["d", "e"])
    }).pipe(Effect.provide(network)))

  it.effect("an interrupted consumer takes nothing from the next one, with and without a connection", () =>
    Effect.gen(function*() {
      const { accept, client } = yield* open()
      const early = yield* start(client.pull)
      assert.isTrue(yield* isWaiting(early))
      yield* Fiber.interrupt(early)
      const waiting = yield* start(client.receive)
      const peer = yield* accept
      yield* until(client, "Open")
      assert.isTrue(yield* isWaiting(waiting))
      yield* Fiber.interrupt(waiting)
      yield* peer.sendText("a")
      assert.strictEqual(yield* client.receive, "a")
    }).pipe(Effect.provide(network)))

  it.effect("several consumers share the messages, over a reconnect too", () =>
    Effect.gen(function*() {
      const { accept, client, peer } = yield* opened()
      const consumers = yield* Effect.forEach([1, 2], () => start(client.receive))
      yield* peer.reset
      yield* until(client, "Waiting")
      for (const consumer of consumers) assert.isTrue(yield* isWaiting(consumer))
      yield* TestClock.adjust("1 second")
      yield* (yield* accept).sendText("a", "b")
      assert.sameMembers(yield* Effect.forEach(consumers, (consumer) => Fiber.join(consumer)), ["a", "b"])
    }).pipe(Effect.provide(network)))

  it.effect("a consumer that does not go on holds back the peer of the current connection", () =>
    Effect.gen(function*() {
      const { accept, client, peer } = yield* opened({ receiveBufferBytes: 1000, heartbeat: false })
      yield* peer.reset
      yield* until(client, "Waiting")
      yield* TestClock.adjust("1 second")
      const second = yield* accept
      yield* until(client, "Open")
      let sent = 0
      while (!(yield* second.isBlocked)) {
        yield* second.sendText("x".repeat(1000))
        sent++
        yield* settle
        assert.isBelow(sent, 200)
      }
      let received = 0
      while (received < sent) received += (yield* client.pull).length
      yield* settle
      assert.isFalse(yield* second.isBlocked)
    }).pipe(Effect.provide(network)))

  it.effect("while nobody takes what lost connections left, no other one adds to it", () =>
    Effect.gen(function*() {
      const { client, nextRequest, peer } = yield* opened({ receiveBufferBytes: 1000, heartbeat: false })
      yield* peer.sendText("x".repeat(1000))
      yield* settle
      yield* peer.reset
      yield* until(client, "Waiting")
      const asked = yield* start(nextRequest)
      yield* TestClock.adjust("1 hour")
      assert.isTrue(yield* isWaiting(asked))
      assert.lengthOf(yield* client.pull, 1)
      yield* Fiber.join(asked)
    }).pipe(Effect.provide(network)))

  it.effect("a typed view of it sends and receives values, over a reconnect too", () =>
    Effect.gen(function*() {
      const { accept, client, peer } = yield* opened()
      const codec = MessageCodec.json(Schema.Struct({ n: Schema.Finite }))
      const typed = TypedConnection.make(client, { incoming: codec, outgoing: codec })
      yield* peer.sendText("{\"n\":1}")
      assert.deepStrictEqual(yield* typed.receive, { n: 1 })
      yield* peer.reset
      yield* until(client, "Waiting")
      yield* typed.sendAll([{ n: 2 }, { n: 3 }])
      yield* TestClock.adjust("1 second")
      const second = yield* accept
      assert.deepStrictEqual(yield* frames(second, 2), ["text {\"n\":2}", "text {\"n\":3}"])
      yield* second.sendText("{\"n\":4}")
      yield* second.close(1000)
      assert.deepStrictEqual(yield* Stream.runCollect(typed.messages), [{ n: 4 }])
    }).pipe(Effect.provide(network)))
})
