import { Reconnect } from "@effect-ws/core"
import { TestNetwork, WebSocketProbe } from "@effect-ws/test-kit"
import { Effect, Layer, Schedule, Stream } from "effect"
import { start } from "./fixture.ts"

/** A network with a client in it, whose server the test plays. */
export const network = Layer.provideMerge(TestNetwork.layerClient, TestNetwork.layerNetwork())

/** A client that tries again every second, and the requests that its server gets. */
export const open = Effect.fnUntraced(
  function*<RC = never, RS = never>(
    options: Reconnect.Options<RC, RS> = {},
    target: string | Effect.Effect<Reconnect.Target, unknown> = "ws://test"
  ) {
    const { links } = yield* TestNetwork.TestNetwork
    const nextRequest = yield* WebSocketProbe.listen()
    const client = yield* Reconnect.connect(target, { schedule: Schedule.spaced("1 second"), ...options })
    // At the end of the test, nobody waits for a peer that does not answer.
    yield* Effect.addFinalizer(() => Effect.flatMap(links, Effect.forEach(({ reset }) => reset)))
    return { client, nextRequest, accept: Effect.flatMap(nextRequest, (request) => request.accept()) }
  }
)

/** The same, with a first connection that is open. */
export const opened = Effect.fnUntraced(function*<RC = never, RS = never>(options: Reconnect.Options<RC, RS> = {}) {
  const opening = yield* open(options)
  const peer = yield* opening.accept
  yield* until(opening.client, "Open")
  return { ...opening, peer }
})

/** Waits until the client is in a state, and gives it. */
export const until = <Tag extends Reconnect.State["_tag"]>(
  client: Reconnect.ReconnectingConnection,
  tag: Tag
): Effect.Effect<Extract<Reconnect.State, { _tag: Tag }>> =>
  client.changes.pipe(
    Stream.filter((state): state is Extract<Reconnect.State, { _tag: Tag }> => state._tag === tag),
    Stream.runHead,
    Effect.flatMap(Effect.fromOption),
    Effect.orDie
  )

/** Rejects the next request, as a server does that cannot take it now. */
export const reject = (nextRequest: Effect.Effect<WebSocketProbe.ProbeRequest>) =>
  Effect.flatMap(nextRequest, (request) => request.reject({ status: 503, headers: {}, body: "" }))

/** All states from now on, as they come. */
export const observe = Effect.fnUntraced(function*(client: Reconnect.ReconnectingConnection) {
  const states: Array<Reconnect.State> = []
  yield* start(Stream.runForEach(client.changes, (state) => Effect.sync(() => states.push(state))))
  return states
})
