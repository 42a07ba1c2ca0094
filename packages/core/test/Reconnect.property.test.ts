import { Reconnect, WebSocketServer } from "@effect-ws/core"
import { LeakGuard, TestNetwork, VirtualTime } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Random, Ref, Schedule, Stream } from "effect"
import { network, observe } from "./reconnect.ts"

const seeds = Array.from({ length: 10 }, (_, seed) => seed)

const choice = <A>(all: ReadonlyArray<A>) => Effect.map(Random.nextIntBetween(0, all.length - 1), (i) => all[i]!)

/** For half a minute: links are reset, cut, stalled and opened again, and servers drop their clients with any code. */
const misbehave: Effect.Effect<void, never, TestNetwork.TestNetwork | WebSocketServer.WebSocketServer> = Effect.gen(
  function*() {
    const { links, set } = yield* TestNetwork.TestNetwork
    const server = yield* WebSocketServer.WebSocketServer
    for (let i = 0; i < 15; i++) {
      yield* Effect.sleep(yield* Random.nextIntBetween(0, 4000))
      const what = yield* choice(["reset", "cut", "stalled", "open", "close", "abort", "late"] as const)
      if (what === "reset") { for (const link of yield* links) yield* link.reset }
      else if (what === "close") {
        const code = yield* choice([1001, 1011, 1012, 1013])
        for (const each of yield* server.connections) yield* Effect.forkChild(each.close(code))
      } else if (what === "abort") { for (const each of yield* server.connections) yield* each.abort }
      else if (what === "late") yield* set({ latency: "50 millis", jitter: "100 millis", chunkBytes: 7 })
      else yield* set({ flow: what })
    }
    yield* set({ flow: "open", latency: 0, jitter: 0 })
  }
)

describe("over a network that fails in every way", () => {
  it.effect.each(seeds)(
    "messages arrive at most once and in order, both ways, and nothing is left (seed %d)",
    (seed) =>
      Effect.gen(function*() {
        const received: Array<number> = []
        const counter = yield* Ref.make(0)
        const arrived = yield* Deferred.make<void>()
        const serving = WebSocketServer.serve((connection) => {
          const count = Effect.flatMap(Ref.getAndUpdate(counter, (n) => n + 1), (n) => connection.send(`${n}`))
          const receive = Stream.runForEach(connection.messages, (message) => {
            if (message === "last") return Effect.asVoid(Deferred.succeed(arrived, undefined))
            return Effect.sync(() => void received.push(Number(String(message).trim())))
          })
          return Effect.raceFirst(receive, Effect.repeat(count, Schedule.spaced("50 millis")))
        })
        yield* Effect.gen(function*() {
          const client = yield* Reconnect.connect("ws://test", { maxQueuedMessages: 50, maxQueuedBytes: 20_000 })
          const counted: Array<number> = []
          const reading = yield* Effect.forkChild(
            Stream.runForEach(client.messages, (message) => Effect.sync(() => counted.push(Number(message))))
          )
          const states = yield* observe(client)
          const failing = yield* Effect.forkChild(misbehave)
          for (let i = 0; i < 300; i++) {
            yield* client.send(`${i}${" ".repeat(yield* Random.nextIntBetween(0, 4000))}`)
            yield* Effect.sleep(yield* Random.nextIntBetween(0, 200))
          }
          yield* Fiber.join(failing)
          // What was sent into a connection that is dying may be lost, and so the last one is said until it is heard.
          yield* Effect.raceFirst(
            Effect.repeat(client.send("last"), Schedule.spaced("1 second")),
            Deferred.await(arrived)
          )
          yield* client.close()
          yield* Fiber.join(reading)
          assert.isAbove(states.filter(({ _tag }) => _tag === "Open").length, 2)
          for (const numbers of [received, counted]) {
            assert.isAbove(numbers.length, 20)
            numbers.forEach((n, i) => i > 0 && assert.isAbove(n, numbers[i - 1]!))
          }
        }).pipe(Effect.provide(Layer.provideMerge(serving, TestNetwork.layerServer())))
      }).pipe(LeakGuard.guard, Random.withSeed(seed), VirtualTime.passing, Effect.provide(network))
  )
})
