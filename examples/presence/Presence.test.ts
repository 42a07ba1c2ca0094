import { WebSocketServer } from "@effect-ws/core"
import { TestNetwork, WebSocketProbe } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import { awayAfter, Presence, serverOptions } from "./Presence.ts"
import * as Protocol from "./Protocol.ts"

// The application as it is, in a network of its own for each test.
const App = Layer.provideMerge(Presence, TestNetwork.layerWith({ server: serverOptions }))

const FromClient = Schema.fromJsonString(Protocol.FromClient)
const ToClient = Schema.fromJsonString(Protocol.ToClient)

/** Somebody who has joined and was welcomed. */
const join = Effect.fnUntraced(function*(name: string) {
  const probe = yield* WebSocketProbe.connect(`ws://chat.example/presence?name=${name}`)
  const expect = (event: Protocol.ToClient) =>
    Effect.map(probe.expectMessage(ToClient), (received) => assert.deepStrictEqual(received, event))
  const say = (message: Protocol.FromClient) => probe.sendText(Schema.encodeSync(FromClient)(message))
  const { people } = yield* probe.expectMessage(ToClient).pipe(
    Effect.flatMap((event) => event._tag === "Welcome" ? Effect.succeed(event) : Effect.die(event))
  )
  return { probe, people, expect, say }
})

/** Two people who know of each other. */
const two = Effect.gen(function*() {
  const ada = yield* join("Ada")
  const grace = yield* join("Grace")
  yield* ada.expect({ _tag: "Joined", name: "Grace" })
  return { ada, grace }
})

describe("joining", () => {
  it.effect("who joins learns who is here, and the others are told", () =>
    Effect.gen(function*() {
      const { ada, grace } = yield* two
      assert.deepStrictEqual(ada.people, [{ name: "Ada", status: "here" }])
      assert.deepStrictEqual(grace.people, [{ name: "Ada", status: "here" }, { name: "Grace", status: "here" }])
    }).pipe(Effect.provide(App)))

  it.effect("a name that is taken is refused with 409, and is free again when its owner has left", () =>
    Effect.gen(function*() {
      const { ada, grace } = yield* two
      const error = yield* Effect.flip(join("Ada"))
      assert.deepInclude(error._tag === "ConnectError" && error.reason, { _tag: "UpgradeRejected", status: 409 })
      yield* ada.probe.close(1000)
      yield* grace.expect({ _tag: "Left", name: "Ada" })
      yield* join("Ada")
    }).pipe(Effect.provide(App)))

  it.effect("who has no name is refused with 400", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(WebSocketProbe.connect("ws://chat.example/presence"))
      assert.deepInclude(error.reason, { _tag: "UpgradeRejected", status: 400, body: "who are you?" })
    }).pipe(Effect.provide(App)))
})

describe("talking", () => {
  it.effect("what is said goes to everybody", () =>
    Effect.gen(function*() {
      const { ada, grace } = yield* two
      yield* ada.say({ _tag: "Say", text: "hello" })
      for (const person of [ada, grace]) yield* person.expect({ _tag: "Said", name: "Ada", text: "hello" })
    }).pipe(Effect.provide(App)))

  it.effect("what is not a message of the chat ends the connection with 1007", () =>
    Effect.gen(function*() {
      const { ada, grace } = yield* two
      yield* grace.probe.sendText("hello?")
      yield* grace.probe.expectClose(1007)
      yield* grace.probe.sendClose(1007)
      yield* grace.probe.end
      yield* ada.expect({ _tag: "Left", name: "Grace" })
    }).pipe(Effect.provide(App)))
})

describe("presence", () => {
  // Nobody answers Pings here, so nobody may send any.
  const Silent = Layer.provideMerge(Presence, TestNetwork.layerWith({ server: { ...serverOptions, heartbeat: false } }))

  it.effect(`who is silent for ${awayAfter} is away, and a word brings them back`, () =>
    Effect.gen(function*() {
      const { ada, grace } = yield* two
      yield* TestClock.adjust("4 minutes")
      yield* grace.say({ _tag: "Say", text: "still here" })
      yield* ada.expect({ _tag: "Said", name: "Grace", text: "still here" })
      yield* TestClock.adjust("59999 millis")
      yield* ada.probe.expectNoMessage("0 millis")
      yield* TestClock.adjust("1 millis")
      yield* ada.expect({ _tag: "Is", name: "Ada", status: "away" })
      yield* ada.probe.expectNoMessage("3 minutes")
      yield* TestClock.adjust("1 minute")
      yield* ada.expect({ _tag: "Is", name: "Grace", status: "away" })
      yield* ada.say({ _tag: "Be", status: "here" })
      yield* ada.expect({ _tag: "Is", name: "Ada", status: "here" })
    }).pipe(Effect.provide(Silent)))
})

describe("when things go wrong", () => {
  it.effect("a slow consumer is closed, and the others do not wait for it", () =>
    Effect.gen(function*() {
      const { ada, grace } = yield* two
      const network = yield* TestNetwork.TestNetwork
      yield* network.set({ bufferBytes: 10_000 }, "toClient")
      yield* grace.probe.demand(0)
      // More than the socket's buffer and the queue of Grace hold together. Ada reads each before she says the next.
      const text = "x".repeat(1000)
      for (let i = 0; i < 40; i++) {
        yield* ada.say({ _tag: "Say", text })
        yield* ada.expect({ _tag: "Said", name: "Ada", text })
      }
      // Grace does not read the Close either: she is dropped when the time for closing is over.
      yield* ada.probe.expectNoMessage("4999 millis")
      yield* TestClock.adjust("1 millis")
      yield* ada.expect({ _tag: "Left", name: "Grace" })
      yield* grace.probe.demand(Infinity)
      yield* grace.probe.expectEnd
    }).pipe(Effect.provide(App)))

  it.effect("a dead peer is noticed after 40 seconds, and the others are told", () =>
    Effect.gen(function*() {
      const { ada } = yield* two
      const [, link] = yield* (yield* TestNetwork.TestNetwork).links
      yield* link!.set({ flow: "cut" })
      yield* TestClock.adjust("20 seconds")
      // Ada answers, in whatever way: every byte is a sign of life.
      yield* ada.probe.expectPing
      yield* ada.say({ _tag: "Be", status: "here" })
      yield* TestClock.adjust("19999 millis")
      yield* ada.probe.expectNoMessage("0 millis")
      yield* TestClock.adjust("1 millis")
      yield* ada.expect({ _tag: "Left", name: "Grace" })
    }).pipe(Effect.provide(App)))

  it.effect("when the server goes down, everybody is told with 1001", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const server = yield* Layer.buildWithScope(
        Layer.provideMerge(Presence, TestNetwork.layerServer(serverOptions)),
        scope
      )
      const { ada, grace } = yield* two
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      // Who leaves first has left for the others.
      yield* grace.expect({ _tag: "Left", name: "Ada" })
      for (const { probe } of [ada, grace]) {
        yield* probe.expectClose(1001)
        yield* probe.sendClose(1001)
        yield* probe.expectEnd
        yield* probe.end
      }
      yield* Fiber.join(closing)
      const { connections } = yield* Effect.provideContext(Effect.service(WebSocketServer.WebSocketServer), server)
      assert.deepStrictEqual(yield* connections, [])
    }).pipe(Effect.provide(TestNetwork.layerNetwork())))
})
