/**
 * The chat with presence on Node.
 *
 *     npx node examples/presence/main.ts 8080
 *
 * It prints its URL, to which any WebSocket client may add a name, as in ws://127.0.0.1:8080/presence?name=Ada, and serves
 * until Ctrl-C.
 */
import { WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, Layer } from "effect"
import { Argument, Command } from "effect/cli"
import { Presence, serverOptions } from "./Presence.ts"

const Announcement = Layer.effectDiscard(Effect.gen(function*() {
  const { url } = yield* WebSocketServer.WebSocketServer
  yield* Console.log(`join at ${url}/presence?name=`)
}))

const port = Argument.Int("port").pipe(Argument.withDefault(8080))

Command.make("presence", { port }, ({ port }) =>
  Layer.mergeAll(Presence, Announcement).pipe(
    Layer.provide(NodeWebSocketServer.layer({ ...serverOptions, port })),
    Layer.launch
  )).pipe(
    Command.run({ version: "0.0.0" }),
    Effect.provide(NodeServices.layer),
    NodeRuntime.runMain
  )
