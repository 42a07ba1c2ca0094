/**
 * A client: it says three things to an echo server, prints what comes back, and closes.
 *
 *     npx node examples/echo-client.ts ws://127.0.0.1:9001
 *
 * The server is examples/echo-server.ts, or any other that echoes. A connection belongs to a scope: it is open inside of
 * `Effect.scoped`, and closed when that ends.
 */
import { WebSocketClient } from "@effect-ws/core"
import { NodeWebSocketClient } from "@effect-ws/node"
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect } from "effect"
import { Argument, Command } from "effect/cli"

const talk = Effect.fn("talk")(function*(url: string) {
  const connection = yield* WebSocketClient.connect(url)
  for (const message of ["hello", "how are you?", "さようなら"]) {
    yield* connection.send(message)
    const answer = yield* connection.receive
    yield* Console.log(`${message} -> ${answer}`)
    if (answer !== message) return yield* Effect.die("that was not an echo")
  }
}, Effect.scoped)

const url = Argument.String("url").pipe(Argument.withDefault("ws://127.0.0.1:9001"))

Command.make("echo-client", { url }, ({ url }) => talk(url)).pipe(
  Command.run({ version: "0.0.0" }),
  Effect.provide([NodeServices.layer, NodeWebSocketClient.layer]),
  NodeRuntime.runMain
)
