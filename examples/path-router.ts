/**
 * Several services on one server: each `serve` is a layer with its own path, subprotocols and handler.
 *
 *     npx node examples/path-router.ts
 *
 * One path echoes; one speaks two versions of a protocol, of which the client gets the one that both know. A client that
 * speaks only other protocols does not connect, and any other path is answered 404.
 */
import { WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Option, Stream } from "effect"

const Echo = WebSocketServer.serve(
  (connection) => Stream.runForEach(connection.messages, (message) => connection.send(message)),
  { path: "/echo" }
)

const Greeter = WebSocketServer.serve(
  (connection) =>
    Stream.runForEach(connection.messages, (name) => {
      const isCasual = Option.contains(connection.subprotocol, "greet.v2")
      return connection.send(isCasual ? `Hi ${name}!` : `Good day, ${name}.`)
    }),
  { path: "/greet", subprotocols: ["greet.v2", "greet.v1"] }
)

const Server = Layer.mergeAll(Echo, Greeter).pipe(Layer.provideMerge(NodeWebSocketServer.layer({ port: 0 })))

const url = WebSocketServer.WebSocketServer.useSync((server) => server.url)

const connect = (path: string, ...subprotocols: Array<string>) =>
  Effect.flatMap(url, (url) => WebSocketClient.connect(`${url}${path}`, { subprotocols }))

const program = Effect.gen(function*() {
  for (
    const connection of [
      yield* connect("/echo"),
      yield* connect("/greet", "greet.v1", "greet.v2"),
      yield* connect("/greet", "greet.v0", "greet.v1")
    ]
  ) {
    yield* connection.send("Ada")
    const subprotocol = Option.getOrElse(connection.subprotocol, () => "no subprotocol")
    yield* Console.log(`${connection.request.url} with ${subprotocol}: ${yield* connection.receive}`)
  }
  for (const attempt of [connect("/greet", "wave.v1"), connect("/nowhere")]) {
    const error = yield* Effect.flip(attempt)
    yield* Console.log(error.message)
  }
})

program.pipe(
  Effect.scoped,
  Effect.provide([Server, NodeWebSocketClient.layer]),
  NodeRuntime.runMain
)
