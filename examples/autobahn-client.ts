/**
 * The client that the Autobahn conformance suite tests: it lets a fuzzing server run all its cases against it.
 *
 *     npx node examples/autobahn-client.ts ws://127.0.0.1:9001
 *     npx node examples/autobahn-client.ts ws://127.0.0.1:9001 --deflate
 *
 * The server is `wstest -m fuzzingserver`. It decides what happens in a case, and judges it; the client echoes until the
 * end, and prints how each case ended. That many end with a protocol error is the point of the suite. In the end, the
 * server writes its reports. With `--deflate`, it offers to compress messages, and the server decides how.
 */
import { type Compression, WebSocketClient } from "@effect-ws/core"
import { NodeWebSocketClient } from "@effect-ws/node"
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Array, Console, Duration, Effect, Record, Schema, Stream } from "effect"
import { Argument, Command, Flag } from "effect/cli"

const agent = "effect-ws"

// Everything that a server may ask for: by default there is no context takeover, and small messages are not compressed.
const contextTakeover = true
const everything: Compression.DeflateOptions = {
  threshold: 0,
  sending: { contextTakeover },
  receiving: { contextTakeover }
}

const options: WebSocketClient.ConnectOptions = {
  maxMessageBytes: 16 * 1024 * 1024,
  // The suite sends 4 MiB in fragments of 64 bytes, and an empty one behind them.
  maxFragments: 65_536 + 1,
  // The server does nothing else while it writes its reports.
  connectTimeout: "5 minutes",
  heartbeat: false
}

const getCaseCount = Effect.fn("getCaseCount")(function*(server: URL) {
  const connection = yield* WebSocketClient.connect(new URL("/getCaseCount", server), options)
  return yield* Schema.decodeUnknownEffect(Schema.FiniteFromString)(yield* connection.receive)
}, Effect.scoped)

const runCase = Effect.fn("runCase")(function*(server: URL, number: number, deflate: boolean) {
  const url = new URL(`/runCase?case=${number}&agent=${agent}`, server)
  const connection = yield* WebSocketClient.connect(url, { ...options, deflate: deflate && everything })
  yield* Stream.runForEach(connection.messages, (message) => connection.send(message)).pipe(
    // However the case ends, `closed` tells it.
    Effect.ignore
  )
  return yield* connection.closed
}, Effect.scoped)

const updateReports = Effect.fn("updateReports")(function*(server: URL) {
  const connection = yield* WebSocketClient.connect(new URL(`/updateReports?agent=${agent}`, server), options)
  yield* connection.closed
}, Effect.scoped)

const runAll = Effect.fn("runAll")(function*(server: URL, deflate: boolean) {
  const count = yield* getCaseCount(server)
  const [duration, codes] = yield* Effect.timed(
    Effect.forEach(Array.range(1, count), (number) =>
      runCase(server, number, deflate).pipe(
        Effect.tap(({ code, reason }) => Console.log(`case ${number} of ${count} ended with ${code} ${reason}`)),
        Effect.map(({ code }) => String(code))
      ))
  )
  yield* updateReports(server)
  const endings = Record.map(Array.groupBy(codes, (code) => code), (cases) => cases.length)
  yield* Console.log(`${count} cases in ${Duration.format(duration)}; by close code:`, endings)
})

const server = Argument.String("server").pipe(Argument.withSchema(Schema.URLFromString))

const deflate = Flag.Boolean("deflate").pipe(Flag.withDefault(false))

Command.make("autobahn-client", { deflate, server }, ({ deflate, server }) => runAll(server, deflate)).pipe(
  Command.run({ version: "0.0.0" }),
  Effect.provide([NodeServices.layer, NodeWebSocketClient.layer]),
  NodeRuntime.runMain
)
