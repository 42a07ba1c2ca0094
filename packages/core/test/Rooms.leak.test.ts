import * as Room from "@effect-ws/core/Room"
import * as Rooms from "@effect-ws/core/Rooms"
import * as WebSocketServer from "@effect-ws/core/WebSocketServer"
import { LeakGuard, TestNetwork, WebSocketProbe } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Stream } from "effect"
import { TestClock } from "effect/testing"

const lobby = Room.make("lobby", { history: { messages: 10 }, notify: ({ _tag }) => _tag })

// Joins, and passes on what it receives; "fail" makes the handler fail.
const Chat = WebSocketServer.serve(Effect.fnUntraced(function*(connection) {
  const rooms = yield* Rooms.Rooms
  yield* rooms.join(lobby, connection, { from: "oldest" })
  yield* Stream.runForEach(
    connection.messages,
    (message) => message === "fail" ? Effect.die("as it was told") : rooms.publish(lobby, message)
  )
}))

const endings: Record<
  string,
  (probe: WebSocketProbe.WebSocketProbe) => Effect.Effect<unknown, WebSocketProbe.ProbeError>
> = {
  "closes": (probe) => probe.close(1000),
  "closes with an error": (probe) => probe.close(4000),
  "resets": (probe) => probe.reset,
  "ends without a Close": (probe) => probe.end,
  "breaks the protocol": (probe) => Effect.andThen(probe.sendBytes(Uint8Array.of(0xff, 0xff)), probe.reset),
  "makes the handler fail": (probe) => Effect.andThen(probe.sendText("fail"), probe.reset),
  "is dead": () => TestClock.adjust("45 seconds")
}

describe("a connection that ends leaves no member", () => {
  it.effect.each(Object.entries(endings))("one that %s", ([, end]) =>
    Effect.gen(function*() {
      const rooms = yield* Rooms.Rooms
      const network = yield* TestNetwork.TestNetwork
      const probe = yield* WebSocketProbe.connect("ws://localhost")
      yield* probe.expectText("Snapshot")
      yield* probe.sendText("hello")
      yield* probe.expectText("hello")
      assert.strictEqual(yield* rooms.count(lobby), 1)
      yield* end(probe)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* rooms.count(lobby), 0)
      assert.deepStrictEqual(yield* network.links, [])
    }).pipe(
      Effect.provide(Layer.provideMerge(Layer.provideMerge(Chat, TestNetwork.layerServer()), Rooms.layerMemory)),
      LeakGuard.guard,
      Effect.provide(TestNetwork.layerNetwork())
    ))
})
