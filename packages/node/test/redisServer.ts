import {
  type Connection,
  Message,
  MessageCodec,
  Room,
  type RoomError,
  Rooms,
  type WebSocketError
} from "@effect-ws/core"
import * as NodeRedisRoomBroker from "@effect-ws/node/NodeRedisRoomBroker"
import { NodeRedis } from "@effect/platform-node"
import { Context, Effect, Layer, Logger, Queue, Schema, type Scope } from "effect"
import { spawn, spawnSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { env } from "node:process"

// Or `valkey-server`, say.
const program = env["REDIS_SERVER"] ?? "redis-server"
export const hasRedis = spawnSync(program, ["--version"]).status === 0
if (!hasRedis) console.log(`skipped, as there is no ${program}: rooms across processes`)

const freePort = Effect.callback<number>((resume) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address() as AddressInfo
    server.close(() => resume(Effect.succeed(port)))
  })
})

/** A Redis of the test, in a directory of its own; it keeps nothing on disk. */
export class RedisServer extends Context.Service<RedisServer, {
  readonly url: string
  /** Kills it, with all it knew. */
  readonly kill: Effect.Effect<void>
  /** Starts it again, at the same port. */
  readonly start: Effect.Effect<void>
  /** Stops it without ending it: connections stay open, and nobody answers. */
  readonly freeze: Effect.Effect<void>
  readonly thaw: Effect.Effect<void>
}>()("test/RedisServer") {
  static readonly layer = Layer.effect(
    RedisServer,
    Effect.gen(function*() {
      const port = yield* freePort
      const directory = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "redis-"))),
        (directory) => Effect.sync(() => rmSync(directory, { recursive: true }))
      )
      const args = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--dir", directory]
      const launch = Effect.callback<ReturnType<typeof spawn>>((resume) => {
        const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] })
        let output = ""
        child.stdout.on("data", (chunk) => {
          output += String(chunk)
          if (output.includes("Ready to accept connections")) resume(Effect.succeed(child))
        })
        child.on("exit", () => resume(Effect.die(new Error(`${program} ended:\n${output}`))))
      })
      let child = yield* launch
      const kill = Effect.callback<void>((resume) => {
        if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
        child.on("exit", () => resume(Effect.void))
        child.kill("SIGKILL")
      })
      yield* Effect.addFinalizer(() => kill)
      return {
        url: `redis://127.0.0.1:${port}`,
        kill,
        start: Effect.map(launch, (launched) => {
          child = launched
        }),
        freeze: Effect.sync(() => child.kill("SIGSTOP")),
        thaw: Effect.sync(() => child.kill("SIGCONT"))
      }
    })
  )
}

/** Provides a Redis; what uses it ends before. */
export const withRedis = <A, E>(effect: Effect.Effect<A, E, RedisServer | Scope.Scope>) =>
  effect.pipe(Effect.scoped, Effect.provide([RedisServer.layer, Logger.layer([])]))

/**
 * Rooms as a process of its own would have them; closing the scope ends it. It may be another user than the default one, and
 * use another database.
 */
export const process = (
  options: NodeRedisRoomBroker.Options = {},
  username?: string,
  redis: { readonly database?: number } = {}
) =>
  Effect.gen(function*() {
    const server = yield* RedisServer
    const url = username === undefined ? server.url : server.url.replace("//", `//${username}:${username}@`)
    const layer = Rooms.layer.pipe(
      Layer.provide(NodeRedisRoomBroker.layer(options)),
      Layer.provide(NodeRedis.layer({ url, ...redis }))
    )
    return Context.get(yield* Layer.build(Layer.fresh(layer)), Rooms.Rooms)
  })

/** A connection for commands of the test. */
export const administer = Effect.gen(function*() {
  const { url } = yield* RedisServer
  const { use } = Context.get(yield* Layer.build(Layer.fresh(NodeRedis.layer({ url }))), NodeRedis.NodeRedis)
  const command = <A>(...args: ReadonlyArray<string>) => use((client) => client.sendCommand<A>(args))
  // A client that is closed while it reconnects may never be closed.
  yield* Effect.addFinalizer(() => Effect.ignore(Effect.timeout(command("PING"), "5 seconds")))
  return command
})

/** A room of numbers, whose members are told "Gap" where some may be missing. */
export const numbers = (name: string, history?: { readonly messages: number }) =>
  Room.make(name, {
    message: MessageCodec.json(Schema.Union([Schema.Finite, Schema.Literal("Gap")])),
    history,
    notify: ({ _tag }) => _tag === "Gap" ? "Gap" : undefined
  })

/** A member that takes whatever it is sent, and notes it. */
export const listen = Effect.fnUntraced(function*<Metadata>(
  rooms: Rooms.Rooms["Service"],
  room: Room.Room<Metadata, never>,
  options?: Rooms.JoinOptions<Metadata>
) {
  const heard: Array<Message.Message> = []
  const overflows: Array<unknown> = []
  const changes = yield* Queue.unbounded<void>()
  const member = {
    sendUnsafe: (sent: Message.Message | Message.Prepared, overflow: unknown) => {
      heard.push(Message.isPrepared(sent) ? sent.message : sent)
      overflows.push(overflow)
      Queue.offerUnsafe(changes, undefined)
      return "Accepted"
    }
  }
  const connection = member as unknown as Connection.Connection
  const join = rooms.join as (
    ...args: readonly [typeof room, Connection.Connection, typeof options]
  ) => Effect.Effect<Rooms.Membership<Metadata>, RoomError.RoomError | WebSocketError.SendError, Scope.Scope>
  return {
    heard,
    overflows,
    connection,
    membership: yield* join(room, connection, options),
    /** Waits until enough has been heard. */
    until: (isEnough: (heard: ReadonlyArray<Message.Message>) => boolean) =>
      Effect.gen(function*() {
        while (!isEnough(heard)) yield* Queue.take(changes)
      })
  }
})
