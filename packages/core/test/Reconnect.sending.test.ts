import { Message, Reconnect, WebSocketClient } from "@effect-ws/core"
import { TestNetwork } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Fiber, References, Stream } from "effect"
import { TestClock } from "effect/testing"
import { frames, isWaiting, open as openConnection, settle, start } from "./fixture.ts"
import { network, open, opened, until } from "./reconnect.ts"

type Accept = Effect.Success<ReturnType<typeof open>>["accept"]

/** What a peer receives from now on, until it is asked with a last message. */
const received = Effect.fnUntraced(
  function*(client: Reconnect.ReconnectingConnection, accept: Accept) {
    const peer = yield* accept
    yield* until(client, "Open")
    yield* client.send("end")
    const all: Array<string> = []
    while (all.at(-1) !== "text end") all.push(...yield* frames(peer, 1))
    return all.slice(0, -1).map((text) => text.slice("text ".length))
  }
)
/** A connection whose socket takes nothing: "first" is on its way, 64 KiB are handed over, and the rest is buffered. */
const openStalled = Effect.fnUntraced(function*(options: Reconnect.Options = {}) {
  const opening = yield* opened(options)
  const { linkOf, set } = yield* TestNetwork.TestNetwork
  const { connection } = yield* until(opening.client, "Open")
  const link = yield* linkOf(connection)
  yield* link.set({ flow: "stalled", bufferBytes: 0 }, "toServer")
  yield* opening.client.send("first")
  yield* settle
  yield* connection.send("x".repeat(65_536))
  return { ...opening, link, set }
})

describe("without a connection", () => {
  it.effect("messages wait for the first one, in order, text, bytes and prepared", () =>
    Effect.gen(function*() {
      const { accept, client } = yield* open()
      yield* client.send("a")
      yield* client.sendAll([Uint8Array.of(1), Message.prepare("b")])
      assert.strictEqual(yield* client.queuedMessages, 3)
      assert.strictEqual(yield* client.queuedBytes, 3)
      assert.deepStrictEqual(yield* frames(yield* accept, 3), ["text a", "binary 1", "text b"])
      assert.strictEqual(yield* client.queuedMessages, 0)
      assert.strictEqual(yield* client.queuedBytes, 0)
    }).pipe(Effect.provide(network)))

  it.effect("suspend: senders wait for room in their order, by messages", () =>
    Effect.gen(function*() {
      const { accept, client } = yield* open({ maxQueuedMessages: 2 })
      yield* client.sendAll(["a", "b"])
      const all = yield* start(client.sendAll(["c", "d", "e"]))
      const one = yield* start(client.send("f"))
      assert.isTrue(yield* isWaiting(all))
      assert.isTrue(yield* isWaiting(one))
      assert.strictEqual(yield* client.queuedMessages, 2)
      const peer = yield* accept
      assert.sameMembers(yield* frames(peer, 6), ["a", "b", "c", "d", "e", "f"].map((text) => `text ${text}`))
      yield* Fiber.join(all)
      yield* Fiber.join(one)
    }).pipe(Effect.provide(network)))

  it.effect("suspend: and by bytes; a larger message is taken when nothing else waits", () =>
    Effect.gen(function*() {
      const { accept, client } = yield* open({ maxQueuedBytes: 10 })
      yield* client.send("x".repeat(20))
      const waiting = yield* start(client.send("ä".repeat(5)))
      assert.isTrue(yield* isWaiting(waiting))
      assert.deepStrictEqual(yield* frames(yield* accept, 2), [`text ${"x".repeat(20)}`, "text äääää"])
      yield* Fiber.join(waiting)
    }).pipe(Effect.provide(network)))

  it.effect("an interrupted send sends nothing, and lets those behind it go on", () =>
    Effect.gen(function*() {
      const { accept, client } = yield* open({ maxQueuedBytes: 10 })
      yield* client.send("12345678")
      const large = yield* start(client.send("large"))
      const small = yield* start(client.send("ok"))
      assert.isTrue(yield* isWaiting(small))
      yield* Fiber.interrupt(large)
      yield* Fiber.join(small)
      assert.deepStrictEqual(yield* received(client, accept), ["12345678", "ok"])
    }).pipe(Effect.provide(network)))

  it.effect("fail: the send fails with QueueFull, which tells how full", () =>
    Effect.gen(function*() {
      const { accept, client } = yield* open({ maxQueuedMessages: 2, overflow: "fail" })
      yield* client.sendAll(["a", "bb"])
      const error = yield* Effect.flip(client.sendAll(["c", "d"]))
      assert.deepInclude(error.reason, { _tag: "QueueFull", queuedMessages: 2, queuedBytes: 3 })
      assert.deepStrictEqual(yield* received(client, accept), ["a", "bb"])
    }).pipe(Effect.provide(network)))

  it.effect("drop-newest: the message is dropped, and the send succeeds", () =>
    Effect.gen(function*() {
      const { accept, client } = yield* open({ maxQueuedMessages: 2, overflow: "drop-newest" })
      yield* client.sendAll(["a", "b", "c"])
      assert.deepStrictEqual(yield* received(client, accept), ["a", "b"])
    }).pipe(Effect.provide(network)))

  it.effect("drop-oldest: those that have waited longest make room, by messages and by bytes", () =>
    Effect.gen(function*() {
      const { accept, client } = yield* open({ maxQueuedMessages: 3, maxQueuedBytes: 10, overflow: "drop-oldest" })
      yield* client.sendAll(["a", "b", "c", "d"])
      assert.strictEqual(yield* client.queuedMessages, 3)
      yield* client.send("123456789")
      assert.strictEqual(yield* client.queuedBytes, 10)
      assert.deepStrictEqual(yield* received(client, accept), ["d", "123456789"])
    }).pipe(Effect.provide(network)))

  it.effect("drop-oldest: nothing is dropped for a message that would not fit even so", () =>
    Effect.gen(function*() {
      const { accept, client } = yield* open({ maxQueuedBytes: 10, overflow: "drop-oldest" })
      yield* client.sendAll(["a", "x".repeat(11), "b"])
      assert.deepStrictEqual(yield* received(client, accept), ["a", "b"])
    }).pipe(Effect.provide(network)))
})

describe("over an open connection", () => {
  it.effect("a burst that a socket takes is not bound by the buffer, whatever the policy", () =>
    Effect.gen(function*() {
      const { client, peer } = yield* opened({ maxQueuedMessages: 1, overflow: "fail" })
      const burst = Array.from({ length: 1000 }, (_, i) => `${i}`)
      yield* client.sendAll(burst)
      assert.deepStrictEqual(yield* frames(peer, 1000), burst.map((text) => `text ${text}`))
    }).pipe(Effect.provide(network)))

  it.effect("a socket that takes nothing fills the buffer, and senders wait", () =>
    Effect.gen(function*() {
      const { client, link, peer } = yield* openStalled({ maxQueuedMessages: 2 })
      yield* client.sendAll(["a", "b"])
      const waiting = yield* start(client.send("c"))
      assert.isTrue(yield* isWaiting(waiting))
      // "first" and the large one belong to the connection.
      assert.strictEqual(yield* client.queuedMessages, 4)
      yield* link.set({ flow: "open", bufferBytes: 65_536 }, "toServer")
      const shown = yield* frames(peer, 5)
      assert.deepStrictEqual(shown.slice(2), ["text a", "text b", "text c"])
      yield* Fiber.join(waiting)
    }).pipe(Effect.provide(network)))

  it.effect("a message larger than all that may wait is sent too", () =>
    Effect.gen(function*() {
      const { client, peer } = yield* opened({ maxQueuedBytes: 1000 })
      const large = "x".repeat(200_000)
      yield* client.sendAll([large, "a", large, "b"])
      assert.deepStrictEqual(yield* frames(peer, 4), [`text ${large}`, "text a", `text ${large}`, "text b"])
    }).pipe(Effect.provide(network)))

  it.effect("and whoever waits behind it has a turn when it is handed over, though nothing else is buffered", () =>
    Effect.gen(function*() {
      const { client, link, peer } = yield* openStalled({ maxQueuedBytes: 1000 })
      const large = "x".repeat(200_000)
      yield* client.send(large)
      const waiting = yield* start(client.send("a"))
      assert.isTrue(yield* isWaiting(waiting))
      yield* link.set({ flow: "open", bufferBytes: 65_536 }, "toServer")
      assert.strictEqual((yield* frames(peer, 3))[2], `text ${large}`)
      assert.isFalse(yield* isWaiting(waiting))
      assert.deepStrictEqual(yield* frames(peer, 1), ["text a"])
    }).pipe(Effect.provide(network)))

  it.effect("a message that waits in the connection, since it is larger than all that may wait there, survives it", () =>
    Effect.gen(function*() {
      const { accept, client, link } = yield* openStalled({ maxQueuedBytes: 1000 })
      const large = "x".repeat(200_000)
      yield* client.send(large)
      // What was on its way arrives now, and what the user sent over the connection takes its place.
      const { connection } = yield* until(client, "Open")
      const sending = yield* start(Effect.ignore(connection.sendStream(Stream.concat(Stream.make("a"), Stream.never))))
      yield* link.set({ flow: "open", bufferBytes: 65_536 }, "toServer")
      yield* settle
      assert.strictEqual(yield* client.queuedMessages, 0)
      yield* link.reset
      yield* Fiber.join(sending)
      yield* until(client, "Waiting")
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* received(client, accept), [large])
    }).pipe(Effect.provide(network)))

  it.effect("at most once: what was handed to a socket that died is not repeated, what is buffered is sent", () =>
    Effect.gen(function*() {
      const { accept, client, link } = yield* openStalled({ maxQueuedMessages: 2 })
      yield* client.sendAll(["a", "b"])
      const waiting = yield* start(client.send("c"))
      yield* link.reset
      yield* until(client, "Waiting")
      assert.isTrue(yield* isWaiting(waiting))
      assert.strictEqual(yield* client.queuedMessages, 2)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* received(client, accept), ["a", "b", "c"])
    }).pipe(Effect.provide(network)))

  // With a budget of few operations, fibers yield between any two of them.
  it.effect.each([3, 4, 5, 7])(
    "an end that comes while one is handed over neither loses nor repeats it (budget %i)",
    (budget) =>
      Effect.gen(function*() {
        const { connection } = yield* openConnection({ role: "client" })
        for (let turns = 0; turns < 200; turns++) {
          const sent: Array<unknown> = []
          const take = (message: unknown) => Effect.sync(() => void sent.push(message))
          // It has no room at first, and then at once.
          const busy = Object.create(connection, {
            queuedBytes: { value: Effect.succeed(65_536) },
            drained: { value: Effect.void },
            send: { value: take },
            sendAll: { value: (messages: Iterable<unknown>) => Effect.forEach(messages, take) },
            close: { value: () => Effect.void },
            pull: { value: Cause.done() }
          })
          const client = yield* Reconnect.connect("ws://test").pipe(
            Effect.provideService(References.MaxOpsBeforeYield, budget),
            Effect.provideService(WebSocketClient.WebSocketClient, { connect: () => Effect.succeed(busy) })
          )
          yield* client.send("a")
          for (let i = 0; i < turns; i++) yield* Effect.yieldNow
          const isOpen = (yield* client.state)._tag === "Open"
          yield* client.close()
          assert.deepStrictEqual([isOpen, ...sent], isOpen ? [true, "a"] : [false])
        }
      })
  )

  it.effect("what is sent while a connection closes goes over the next one", () =>
    Effect.gen(function*() {
      const { accept, client, peer } = yield* opened()
      const { connection } = yield* until(client, "Open")
      yield* peer.sendClose(1012)
      yield* settle
      assert.strictEqual(yield* connection.state, "Closing")
      yield* client.send("a")
      yield* peer.end
      yield* until(client, "Waiting")
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual(yield* received(client, accept), ["a"])
    }).pipe(Effect.provide(network)))

  it.effect("a half-open link: all within the bounds, and what the socket did not take survives it", () =>
    Effect.gen(function*() {
      const { accept, client } = yield* opened({ maxQueuedMessages: 100 })
      const { set } = yield* TestNetwork.TestNetwork
      yield* set({ flow: "cut" })
      const sending = yield* start(client.sendAll(Array.from({ length: 300 }, (_, i) => `${i} ${"x".repeat(1000)}`)))
      assert.isTrue(yield* isWaiting(sending))
      const { connection } = yield* until(client, "Open")
      const queued = yield* connection.queuedBytes
      assert.isAtMost(queued, 2 * 65_536 + 2000)
      assert.strictEqual((yield* client.queuedMessages) - (yield* connection.queuedMessages), 100)
      // The heartbeat needs 40 seconds; then the network is there again.
      yield* TestClock.adjust("40 seconds")
      yield* until(client, "Waiting")
      yield* set({ flow: "open" })
      yield* TestClock.adjust("1 second")
      const peer = yield* accept
      yield* Fiber.join(sending)
      const arrived = (yield* received(client, Effect.succeed(peer))).map((text) => Number(text.split(" ")[0]))
      // What the network held is lost, and nothing else.
      const [lost] = arrived
      assert.isAbove(lost!, 0)
      assert.isAtMost(lost! * 1000, queued + 65_536)
      assert.deepStrictEqual(arrived, Array.from({ length: 300 - lost! }, (_, i) => lost! + i))
    }).pipe(Effect.provide(network)))
})
