import { Reconnect, WebSocketServer } from "@effect-ws/core"
import { type TestLink, TestNetwork, VirtualTime } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Duration, Effect, Exit, Fiber, Layer, Random, Schedule, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { isWaiting, start } from "./fixture.ts"
import { network, observe, open, opened, reject, until } from "./reconnect.ts"

const show = (state: Reconnect.State) => {
  switch (state._tag) {
    case "Connecting":
      return `Connecting ${state.attempt}`
    case "Open":
      return "Open"
    case "Waiting":
      return `Waiting ${state.attempt} until ${state.until}: ${state.ending._tag}`
    case "Closed":
      return state.error === undefined ? "Closed" : `Closed: ${state.error.message}`
  }
}

/** How long after an ending the client asks again. */
const delayOf = (client: Reconnect.ReconnectingConnection) =>
  Effect.gen(function*() {
    const { until: at } = yield* until(client, "Waiting")
    return at - (yield* Clock.currentTimeMillis)
  })

describe("the state", () => {
  it.effect("goes from attempt to attempt, and is observed until the end", () =>
    Effect.gen(function*() {
      const { accept, client, nextRequest } = yield* open()
      const observing = yield* start(Stream.runCollect(client.changes))
      for (let i = 0; i < 2; i++) {
        yield* reject(nextRequest)
        yield* until(client, "Waiting")
        yield* TestClock.adjust("1 second")
      }
      const peer = yield* accept
      const { connection } = yield* until(client, "Open")
      assert.strictEqual(yield* connection.state, "Open")
      yield* peer.reset
      yield* until(client, "Waiting")
      yield* TestClock.adjust("1 second")
      yield* (yield* accept).close(1008, "enough")
      assert.deepStrictEqual((yield* Fiber.join(observing)).map(show), [
        "Connecting 1",
        "Waiting 2 until 1000: ConnectError",
        "Connecting 2",
        "Waiting 3 until 2000: ConnectError",
        "Connecting 3",
        "Open",
        "Waiting 1 until 3000: ConnectionEnded",
        "Connecting 1",
        "Open",
        "Closed: ConnectionEnded: PeerClosed (close code 1008): enough"
      ])
      assert.deepStrictEqual(yield* Stream.runCollect(client.changes), [yield* client.state])
    }).pipe(Effect.provide(network)))

  it.effect("an observer that does not go on costs a bound of memory, and sees the latest", () =>
    Effect.gen(function*() {
      const { client, nextRequest } = yield* open()
      const seen: Array<Reconnect.State> = []
      const slow = yield* start(
        Stream.runForEach(
          client.changes,
          (state) => Effect.andThen(Effect.sync(() => seen.push(state)), Effect.sleep("1 minute"))
        )
      )
      for (let i = 0; i < 20; i++) {
        yield* reject(nextRequest)
        yield* until(client, "Waiting")
        yield* TestClock.adjust("1 second")
      }
      yield* client.close()
      yield* TestClock.adjust("1 hour")
      yield* Fiber.join(slow)
      assert.isAtMost(seen.length, 20)
      assert.strictEqual(seen.at(-1)?._tag, "Closed")
    }).pipe(Effect.provide(network)))

  it.effect("retryNow ends a wait at once, and only a wait", () =>
    Effect.gen(function*() {
      const { accept, client, peer } = yield* opened({ schedule: Schedule.spaced("1 hour") })
      yield* client.retryNow
      yield* peer.reset
      yield* until(client, "Waiting")
      const asked = yield* start(accept)
      assert.isTrue(yield* isWaiting(asked))
      yield* client.retryNow
      yield* Fiber.join(asked)
      yield* until(client, "Open")
      assert.strictEqual(yield* Clock.currentTimeMillis, 0)
    }).pipe(Effect.provide(network)))
})

describe("the schedule", () => {
  it.effect("§7.2.3: by default, each delay is a random part of 1, 2, 4, ... and at most 30 seconds", () =>
    Effect.gen(function*() {
      const highest = [1, 2, 4, 8, 16, 30, 30]
      const seen = yield* Effect.forEach(Array.from({ length: 50 }), () =>
        Effect.gen(function*() {
          const delays = yield* Schedule.toStep(Reconnect.defaultSchedule)
          return yield* Effect.forEach(highest, () => Effect.map(delays(0, undefined), ([_, delay]) => delay))
        }).pipe(Effect.orDie)).pipe(Random.withSeed("delays"))
      highest.forEach((seconds, i) => {
        const column = seen.map((delays) => Duration.toSeconds(delays[i]!))
        assert.isAtMost(Math.max(...column), seconds)
        assert.isAbove(Math.max(...column), seconds * 0.8)
        assert.isBelow(Math.min(...column), seconds * 0.2)
      })
    }))

  it.effect("begins anew only after a connection that was open for a minute", () =>
    Effect.gen(function*() {
      const { accept, client, nextRequest } = yield* open({
        schedule: Schedule.exponential("1 second"),
        heartbeat: false
      })
      for (const [openFor, delay] of [[0, 1], [59_999, 2], [60_000, 1], [1000, 2]] as const) {
        const peer = yield* accept
        yield* until(client, "Open")
        yield* TestClock.adjust(Duration.millis(openFor))
        yield* peer.reset
        assert.strictEqual(yield* delayOf(client), delay * 1000)
        yield* TestClock.adjust(Duration.seconds(delay))
      }
      yield* reject(nextRequest)
      assert.strictEqual(yield* delayOf(client), 4000)
    }).pipe(Effect.provide(network)))

  it.effect("or for as long as `stableAfter` says", () =>
    Effect.gen(function*() {
      const schedule = Schedule.exponential("1 second")
      const { accept, client } = yield* open({ schedule, stableAfter: "1 second" })
      for (const openFor of [999, 1000]) {
        const peer = yield* accept
        yield* until(client, "Open")
        yield* TestClock.adjust(Duration.millis(openFor))
        yield* peer.reset
        assert.strictEqual(yield* delayOf(client), 1000)
        yield* TestClock.adjust("1 second")
      }
    }).pipe(Effect.provide(network)))

  it.effect("is told the ending", () =>
    Effect.gen(function*() {
      const { client, peer } = yield* opened({
        schedule: Schedule.spaced("1 second").pipe(
          Schedule.setInputType<Reconnect.Ending>(),
          Schedule.modifyDelay(({ duration, input }) =>
            Effect.succeed(
              input._tag === "ConnectionEnded" && input.closeEvent.code === 1011
                ? Duration.times(duration, 60)
                : duration
            )
          )
        )
      })
      yield* peer.close(1011)
      assert.strictEqual(yield* delayOf(client), 60_000)
    }).pipe(Effect.provide(network)))
})

describe("a server that drains", () => {
  /** A server, and when its clients came. */
  const serve = Effect.gen(function*() {
    const arrivals: Array<number> = []
    const context = yield* Layer.build(Layer.provideMerge(
      WebSocketServer.serve((connection) =>
        Effect.gen(function*() {
          arrivals.push(yield* Clock.currentTimeMillis)
          yield* connection.closed
        })
      ),
      TestNetwork.layerServer()
    ))
    return { arrivals, server: Context.get(context, WebSocketServer.WebSocketServer) }
  })

  it.effect.each([1001, 1012, 1013])(
    "§7.2.3: with %d gets its clients back one by one, within the spread",
    (code) =>
      Effect.gen(function*() {
        const { arrivals, server } = yield* serve
        const clients = yield* Effect.forEach(
          Array.from({ length: 200 }),
          () => Reconnect.connect("ws://test", { schedule: Schedule.spaced("1 second"), drainSpread: "10 seconds" })
        )
        yield* Effect.forEach(clients, (client) => until(client, "Open"))
        arrivals.length = 0
        const connections = yield* server.connections
        yield* Effect.forEach(connections, (connection) => connection.close(code), { concurrency: "unbounded" })
        yield* Effect.forEach(clients, (client) => until(client, "Waiting"))
        yield* TestClock.adjust("11 seconds")
        assert.lengthOf(arrivals, 200)
        assert.isAtLeast(Math.min(...arrivals), 1000)
        // On average, 20 in each second.
        for (let second = 1; second < 11; second++) {
          const share = arrivals.filter((at) => Math.floor(at / 1000) === second).length
          assert.isAtLeast(share, 8)
          assert.isAtMost(share, 40)
        }
      }).pipe(Random.withSeed("drain"), VirtualTime.passing, Effect.provide(network))
  )

  it.effect("a lost connection is not delayed by the spread", () =>
    Effect.gen(function*() {
      const { client, peer } = yield* opened()
      yield* peer.reset
      assert.strictEqual(yield* delayOf(client), 1000)
    }).pipe(Effect.provide(network)))

  it.effect("a server that is stopped and started again gets its clients back, with what they sent meanwhile", () =>
    Effect.gen(function*() {
      const startServer = Effect.gen(function*() {
        const scope = yield* Scope.make()
        const Echo = WebSocketServer.serve((connection) =>
          Stream.runForEach(connection.messages, (message) => connection.send(message))
        )
        yield* Scope.provide(Layer.build(Layer.provide(Echo, TestNetwork.layerServer({ host: "test" }))), scope)
        return Scope.close(scope, Exit.void)
      })
      const stop = yield* startServer
      const client = yield* Reconnect.connect("ws://test")
      yield* client.send("before")
      assert.strictEqual(yield* client.receive, "before")
      const states = yield* observe(client)
      yield* stop
      yield* client.send("between")
      yield* Effect.sleep("1 minute")
      const stopAgain = yield* startServer
      assert.strictEqual(yield* client.receive, "between")
      const endings = states.flatMap((state) => state._tag === "Waiting" ? [state.ending] : [])
      assert(endings[0]?._tag === "ConnectionEnded")
      assert.strictEqual(endings[0].closeEvent.code, 1001)
      assert.isAbove(endings.length, 2)
      for (const ending of endings.slice(1)) {
        assert(ending._tag === "ConnectError")
        assert.strictEqual(ending.reason._tag, "HostNotFound")
      }
      yield* client.close()
      yield* stopAgain
    }).pipe(Random.withSeed("restart"), VirtualTime.passing, Effect.provide(network)))
})

describe("a network", () => {
  const echo = Layer.provideMerge(
    WebSocketServer.serve((connection) =>
      Stream.runForEach(connection.messages, (message) => connection.send(message))
    ),
    TestNetwork.layer
  )
  const cut: Partial<TestLink.Behaviour> = { flow: "cut" }

  it.effect("that is partitioned and heals in time is not noticed", () =>
    Effect.gen(function*() {
      const { set } = yield* TestNetwork.TestNetwork
      const client = yield* Reconnect.connect("ws://test")
      yield* until(client, "Open")
      const states = yield* observe(client)
      yield* set(cut)
      yield* client.send("a")
      yield* Effect.sleep("30 seconds")
      yield* set({ flow: "open" })
      assert.strictEqual(yield* client.receive, "a")
      assert.deepStrictEqual(states.map(({ _tag }) => _tag), ["Open"])
    }).pipe(VirtualTime.passing, Effect.provide(echo)))

  it.effect("that is partitioned for long: attempts time out, and one succeeds when it has healed", () =>
    Effect.gen(function*() {
      const { set } = yield* TestNetwork.TestNetwork
      const client = yield* Reconnect.connect("ws://test")
      yield* until(client, "Open")
      const states = yield* observe(client)
      yield* set(cut)
      yield* Effect.sleep("5 minutes")
      yield* client.send("a")
      yield* set({ flow: "open" })
      assert.strictEqual(yield* client.receive, "a")
      const reasons = states.flatMap((state) => {
        if (state._tag !== "Waiting" || state.ending._tag === "AttemptFailed") return []
        return [state.ending._tag === "ConnectError" ? state.ending.reason._tag : state.ending.error?.reason._tag]
      })
      assert.strictEqual(reasons[0], "HeartbeatTimeout")
      assert.isAbove(reasons.length, 3)
      for (const reason of reasons.slice(1)) assert.strictEqual(reason, "ConnectTimeout")
    }).pipe(Random.withSeed("partition"), VirtualTime.passing, Effect.provide(echo)))

  it.effect("that breaks every connection in the middle of a frame still carries all that is whole", () =>
    Effect.gen(function*() {
      const { set } = yield* TestNetwork.TestNetwork
      yield* set({ resetAfter: 1000 }, "toClient")
      const client = yield* Reconnect.connect("ws://test", { schedule: Schedule.spaced("1 second") })
      for (let i = 0; i < 10; i++) {
        yield* until(client, "Open")
        yield* client.sendAll([`${i} ${"x".repeat(400)}`, "y".repeat(2000)])
        const received = yield* client.receive
        assert.strictEqual(received, `${i} ${"x".repeat(400)}`)
        yield* until(client, "Waiting")
      }
    }).pipe(VirtualTime.passing, Effect.provide(echo)))
})
