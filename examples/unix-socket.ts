/**
 * A Unix socket instead of a port: for programs of one machine, behind a proxy or beside each other.
 *
 *     npx node examples/unix-socket.ts
 *
 * The server listens at a path of the file system, and who may write to that file may connect. The URL of a client
 * names the socket first and then, behind a colon, the path to ask for. The file goes with the server.
 */
import { type HandshakeRequest, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, FileSystem, Layer } from "effect"

const Greeting = WebSocketServer.serve((connection, name) => connection.send(`hello, ${name}`), {
  path: "/greet",
  handshake: ({ query }: HandshakeRequest.HandshakeRequest) => Effect.succeed({ data: query.get("name") ?? "stranger" })
})

const visit = Effect.gen(function*() {
  const { url } = yield* WebSocketServer.WebSocketServer
  const connection = yield* WebSocketClient.connect(`${url}:/greet?name=Ada`)
  yield* Console.log(`${url} says: ${yield* connection.receive}`)
}).pipe(Effect.scoped)

const program = Effect.gen(function*() {
  const files = yield* FileSystem.FileSystem
  const folder = yield* files.makeTempDirectoryScoped()
  const socketPath = `${folder}/greet.sock`
  const Server = Layer.provideMerge(Greeting, NodeWebSocketServer.layer({ socketPath }))
  yield* Effect.provide(visit, [Server, NodeWebSocketClient.layer])
  yield* Console.log(`the socket is ${(yield* files.exists(socketPath)) ? "still there" : "gone"}`)
})

program.pipe(Effect.scoped, Effect.provide(NodeServices.layer), NodeRuntime.runMain)
