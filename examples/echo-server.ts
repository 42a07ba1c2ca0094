/**
 * An echo server: every message goes back to the client that sent it.
 *
 *     npx node examples/echo-server.ts 9001
 *     npx node examples/echo-server.ts 9001 --deflate
 *
 * With `--deflate`, messages are compressed if the client offers it, in any way it asks for. It prints its URL, and serves until Ctrl-C; examples/echo-client.ts talks to it. The options are for the Autobahn
 * conformance suite, which sends messages larger than a server should take from strangers. A program of your own leaves
 * them out.
 */
import { type Compression, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Config, Console, Effect, Layer, Stream } from "effect"
import { Argument, Command, Flag } from "effect/cli"

const Echo = WebSocketServer.serve((connection) =>
  Stream.runForEach(connection.messages, (message) => connection.send(message))
)

const Announcement = Layer.effectDiscard(Effect.gen(function*() {
  const { url } = yield* WebSocketServer.WebSocketServer
  yield* Console.log(`echoing at ${url}`)
}))

// Everything that a client may ask for: by default there is no context takeover, and small messages are not compressed.
const contextTakeover = true
const everything: Compression.DeflateOptions = {
  threshold: 0,
  sending: { contextTakeover },
  receiving: { contextTakeover }
}

const EchoServer = (port: number, deflate: boolean) =>
  Layer.mergeAll(Echo, Announcement).pipe(
    Layer.provide(NodeWebSocketServer.layer({
      port,
      deflate: deflate && everything,
      maxMessageBytes: 16 * 1024 * 1024,
      // The suite sends 4 MiB in fragments of 64 bytes, and an empty one behind them.
      maxFragments: 65_536 + 1,
      // The suite expects nothing but echoes, so a client that says nothing is not pinged.
      heartbeat: false
    }))
  )

const port = Argument.Int("port").pipe(
  Argument.withFallbackConfig(Config.Port("PORT")),
  Argument.withDefault(9001)
)

const deflate = Flag.Boolean("deflate").pipe(Flag.withDefault(false))

Command.make("echo-server", { deflate, port }, ({ deflate, port }) => Layer.launch(EchoServer(port, deflate))).pipe(
  Command.run({ version: "0.0.0" }),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
