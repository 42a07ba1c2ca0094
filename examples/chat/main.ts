/**
 * A chat with a web page.
 *
 *     npm start
 *     npm start -- --port 8080
 *     npm start -- --redis redis://127.0.0.1:6379 --workers 4
 *
 * With Redis, it runs in as many processes as you like, here and on other machines, and all of them are one room.
 */
import { Rooms, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketServer } from "@effect-ws/node"
import * as NodeRedisRoomBroker from "@effect-ws/node/NodeRedisRoomBroker"
import { NodeHttpServer, NodeRedis, NodeRuntime } from "@effect/platform-node"
import { Config, Console, Effect, Layer, Option, Schema } from "effect"
import { CliError, Command, Flag } from "effect/cli"
import cluster from "node:cluster"
import { Chat } from "./Chat.ts"
import { pageServer } from "./PageServer.ts"
import * as Workers from "./Workers.ts"

const chat = (port: number, redis: Option.Option<string>) => {
  const rooms = Option.match(redis, {
    onNone: () => Rooms.layerMemory,
    onSome: (url) =>
      Rooms.layer.pipe(
        // Who was in a process that died has left after six to eight seconds.
        Layer.provide(NodeRedisRoomBroker.layer({ lease: "6 seconds" })),
        Layer.provide(NodeRedis.layer({ url }))
      )
  })
  return Chat.pipe(
    Layer.provideMerge(NodeWebSocketServer.layerFromHttpServer(pageServer(port), {
      maxMessageBytes: 4096,
      maxQueuedBytes: 256 * 1024
    })),
    // Before it listens: who comes earlier would be turned away.
    Layer.provide(rooms)
  )
}

const announce = (host: string, port: number, hint: string) =>
  Console.log(`The chat is at http://${host}:${port} (${hint})`)

const announceServer = Layer.effectDiscard(Effect.gen(function*() {
  const { address } = yield* WebSocketServer.WebSocketServer
  if (address._tag === "Tcp") yield* announce(address.host, address.port, "Ctrl-C ends it")
}))

const startWorkers = Effect.fnUntraced(function*(count: number) {
  const { address, port } = yield* Workers.start(count)
  yield* announce(
    address,
    port,
    `${count} processes; Ctrl-C ends them, kill -USR2 ${process.pid} renews them one by one`
  )
  return yield* Effect.never
}, Effect.scoped)

const Port = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 65535 }))

const port = Flag.Int("port").pipe(
  Flag.withDescription("Port to listen at; 0 for any that is free"),
  Flag.withSchema(Port),
  Flag.withFallbackConfig(Config.schema(Port, "PORT")),
  Flag.withDefault(3000)
)

const redis = Flag.String("redis").pipe(
  Flag.withDescription("URL of a Redis or Valkey that keeps the room, for several processes"),
  Flag.optional
)

const workers = Flag.Int("workers").pipe(
  Flag.withDescription("How many processes share the port; more than one needs --redis"),
  Flag.withSchema(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 64 }))),
  Flag.withDefault(1)
)

const userError = (cause: unknown, userMessage: string) => Effect.fail(new CliError.UserError({ cause, userMessage }))

const serve = Effect.fnUntraced(function*(port: number, redis: Option.Option<string>, workers: number) {
  const server = chat(port, redis)
  if (workers === 1) return yield* Layer.launch(Layer.provideMerge(announceServer, server))
  if (Option.isNone(redis)) return yield* userError(undefined, "Several processes need --redis")
  return yield* cluster.isPrimary ? startWorkers(workers) : Workers.serve(server)
})

Command.make("chat", { port, redis, workers }, ({ port, redis, workers }) =>
  serve(port, redis, workers).pipe(
    Effect.catchTags({
      ServeError: ({ cause }) => userError(cause, `${cause}. Try another port: npm start -- --port ${port + 1}`),
      RedisError: ({ cause }) => userError(cause, `Redis is out of reach: ${cause}`),
      BrokerUnavailable: ({ cause }) => userError(cause, `Redis is out of reach: ${cause}`),
      WorkerFailed: (error) => userError(error, "The chat could not be started")
    })
  )).pipe(
    Command.run({ version: "0.0.0" }),
    Effect.provide(NodeHttpServer.layerHttpServices),
    NodeRuntime.runMain
  )
