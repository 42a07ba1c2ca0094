/**
 * Choosing a subprotocol: by the server's order of preference, or by the handshake hook.
 *
 *     npx node examples/subprotocols.ts
 *
 * At `/list`, the first of the server's own that the client offers is chosen. At `/hook`, the hook chooses by who asks. A
 * client that offers some, and is offered none, does not connect; one that offers none may.
 */
import { type HandshakeRequest, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Option } from "effect"

const Listed = WebSocketServer.serve((connection) => connection.closed, {
  path: "/list",
  subprotocols: ["chat.v3", "chat.v2", "chat.v1"]
})

const choose = ({ query, subprotocols }: HandshakeRequest.HandshakeRequest) =>
  Effect.succeed({
    // Testers get what is new, all others what the client prefers.
    subprotocol: query.has("tester") ? subprotocols.find((name) => name === "chat.v4") : subprotocols[0],
    data: undefined
  })

const Chosen = WebSocketServer.serve((connection) => connection.closed, { path: "/hook", handshake: choose })

const Server = Layer.merge(Listed, Chosen).pipe(Layer.provideMerge(NodeWebSocketServer.layer({ port: 0 })))

const attempts = [
  ["/list", ["chat.v1", "chat.v2"]],
  ["/list", []],
  ["/list", ["chat.v0"]],
  ["/hook", ["chat.v2", "chat.v4"]],
  ["/hook?tester", ["chat.v2", "chat.v4"]]
] as const

const program = Effect.gen(function*() {
  const { url } = yield* WebSocketServer.WebSocketServer
  for (const [target, subprotocols] of attempts) {
    const chosen = yield* WebSocketClient.connect(`${url}${target}`, { subprotocols }).pipe(
      Effect.map(({ subprotocol }) => Option.getOrElse(subprotocol, () => "none")),
      Effect.catch(({ reason }) => Effect.succeed(reason._tag)),
      Effect.scoped
    )
    yield* Console.log(`${target} for [${subprotocols.join(", ")}]: ${chosen}`)
  }
})

program.pipe(Effect.provide([Server, NodeWebSocketClient.layer]), NodeRuntime.runMain)
