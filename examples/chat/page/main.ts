/**
 * What runs in the page: joins the chat, shows what the server says, and comes back when the connection was lost.
 */
import * as BrowserWebSocketClient from "@effect-ws/core/BrowserWebSocketClient"
import type { Connection } from "@effect-ws/core/Connection"
import * as Reconnect from "@effect-ws/core/Reconnect"
import type { Position } from "@effect-ws/core/Room"
import * as TypedConnection from "@effect-ws/core/TypedConnection"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Protocol from "../Protocol.ts"
import * as Screen from "./Screen.ts"

const encodeArrival = Schema.encodeEffect(Protocol.Arrival)

// The last message in the log, whoever joined since.
let seen: Position | undefined

// From joining to leaving, over as many connections as that takes.
const converse = Effect.fnUntraced(function*(me: Protocol.Person) {
  let received = 0
  const absences = yield* FiberMap.make<string>()

  // Made anew for each attempt, so that the server knows what this page has seen.
  const target = Effect.suspend(() => encodeArrival(seen === undefined ? me : { ...me, seen })).pipe(
    Effect.map((arrival) => ({
      url: new URL(`/chat?${new URLSearchParams(arrival)}`, location.href.replace("http", "ws"))
    }))
  )

  // A browser may not notice for minutes that the network is gone. But this server says something each second.
  const watch = Effect.fnUntraced(function*(connection: Connection) {
    let before = -1
    while (received > before) {
      before = received
      yield* Effect.sleep("10 seconds")
    }
    yield* connection.abort
  })

  const connection = yield* Reconnect.connect(target, {
    onConnect: (connection) => Effect.forkScoped(watch(connection))
  })
  const chat = TypedConnection.make(connection, Protocol.page)

  Screen.enter(me)
  yield* Effect.forkScoped(showState(connection))
  yield* Effect.forkScoped(Stream.runForEach(Screen.retries, () => connection.retryNow))
  yield* Effect.forkScoped(Stream.runForEach(Screen.texts, (text) => chat.send({ _tag: "Say", text })))
  yield* Effect.forkScoped(Stream.runForEach(Screen.leaves, () => connection.close()))

  yield* Stream.runForEach(chat.messages, (said) =>
    Effect.suspend(() => {
      received++
      if (said._tag === "Said") seen = said.position
      Screen.show(said)
      if (said._tag !== "Left") return Effect.void
      // A page that lost its connection, or whose server restarts, is back before anybody has to know.
      const person = said.member.metadata
      const absence = Effect.delay(Effect.sync(() => Screen.showAbsence(person)), "15 seconds")
      return FiberMap.run(absences, person.id, absence)
    })).pipe(
      // Why it ended, the state tells.
      Effect.ignore
    )
  Screen.leave(yield* connection.state)
}, Effect.scoped)

// While an attempt is waited for, each second.
const showState = (connection: Reconnect.ReconnectingConnection) =>
  connection.changes.pipe(
    Stream.switchMap((state) =>
      Stream.map(state._tag === "Waiting" ? Stream.tick("1 second") : Stream.succeed(undefined), () => state)
    ),
    Stream.runForEach((state) => Effect.map(Clock.currentTimeMillis, (now) => Screen.showState(state, now)))
  )

// The same person after the page was loaded anew.
const myId = Effect.map(Random.next, (random) => {
  const id = sessionStorage.getItem("id") ?? random.toString(36).slice(2)
  sessionStorage.setItem("id", id)
  return id
})

Effect.gen(function*() {
  const id = yield* myId
  Screen.ready()
  yield* Stream.runForEach(Screen.names, (name) => converse({ id, name }))
}).pipe(Effect.provide(BrowserWebSocketClient.layer), Effect.runFork)
