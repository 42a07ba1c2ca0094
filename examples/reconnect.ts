/**
 * A client that outlives its connections: its server is stopped and started again, and at last has enough of it.
 *
 *     npx node examples/reconnect.ts
 *
 * Each attempt has a token of its own, each connection begins with a subscription, and what is sent while nobody listens
 * arrives later.
 */
import { Reconnect, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Context, Effect, Exit, Fiber, Layer, Ref, Schedule, Scope, Stream } from "effect"

const Server = WebSocketServer.serve(
  Effect.fn("server")(function*(connection) {
    const token = connection.request.headers["authorization"]
    while (true) {
      const message = yield* connection.receive
      if (message === "too much") return yield* connection.close(4003, "enough")
      yield* connection.send(`${token}: ${message}`)
    }
  })
)

/** A server in a scope of its own, so that the program can stop it. */
const startServer = Effect.fn("startServer")(function*(port: number) {
  const scope = yield* Scope.make()
  const listening = Layer.provideMerge(Server, NodeWebSocketServer.layer({ port }))
  const context = yield* Scope.provide(Layer.build(listening), scope)
  const { address } = Context.get(context, WebSocketServer.WebSocketServer)
  return { port: address._tag === "Tcp" ? address.port : 0, stop: Scope.close(scope, Exit.void) }
})

const show = (state: Reconnect.State): string => {
  switch (state._tag) {
    case "Connecting":
      return `connecting, attempt ${state.attempt}`
    case "Open":
      return "open"
    case "Waiting":
      return `waiting for attempt ${state.attempt}: ${state.ending.message}`
    case "Closed":
      return `closed: ${state.error?.message ?? "done"}`
  }
}

const program = Effect.gen(function*() {
  const first = yield* startServer(0)
  const tokens = yield* Ref.make(0)
  const target = Effect.map(Ref.updateAndGet(tokens, (n) => n + 1), (n) => ({
    url: `ws://127.0.0.1:${first.port}`,
    headers: { authorization: `token ${n}` }
  }))
  const client = yield* Reconnect.connect(target, {
    onConnect: (connection) => connection.send("subscribe"),
    schedule: Schedule.spaced("50 millis").pipe(Schedule.jittered),
    drainSpread: "50 millis"
  })
  const watching = yield* Effect.forkChild(
    Stream.runForEach(client.changes, (state) => Console.log(show(state))),
    { startImmediately: true }
  )
  const reading = yield* Effect.forkChild(
    Stream.runForEach(client.messages, (message) => Console.log(`received ${message}`)),
    { startImmediately: true }
  )

  yield* client.changes.pipe(Stream.filter(({ _tag }) => _tag === "Open"), Stream.runHead)
  yield* first.stop
  yield* client.send("sent while nobody listened")
  yield* client.changes.pipe(
    Stream.filter((state) => state._tag === "Waiting" && state.ending._tag === "ConnectError"),
    Stream.runHead
  )

  const second = yield* startServer(first.port)
  yield* client.send("too much")
  const error = yield* Effect.flip(Fiber.join(reading))
  yield* Fiber.join(watching)
  if (error.reason._tag === "ConnectionEnded") yield* Console.log(`gave up: ${error.reason.closeEvent.reason}`)
  yield* second.stop
})

program.pipe(Effect.scoped, Effect.provide(NodeWebSocketClient.layer), NodeRuntime.runMain)
