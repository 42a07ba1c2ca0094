/**
 * The two connections of a broker: one for commands, one for what is published.
 */
import { BrokerUnavailable } from "@effect-ws/core/RoomError"
import { NodeRedis } from "@effect/platform-node/NodeRedis"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import { Buffer } from "node:buffer"
import { ClientOfflineError, RESP_TYPES } from "redis"
import type { Script } from "./redisScripts.ts"

const typeMapping = { [RESP_TYPES.BLOB_STRING]: Buffer }

/**
 * Connects twice, with the options of the `NodeRedis` in the context. Both connections come back after an outage, and are
 * given up when Redis is silent for the time of a lease.
 *
 * `evaluate` runs a script, `listen` listens to a channel until the scope closes, through outages, and `heard` waits for what
 * comes on one: all fail when that takes longer than the timeout, and at once without a connection, or when it is lost.
 * `onReady` is called when listening goes on after an outage.
 */
export const make = Effect.fnUntraced(function*(options: {
  readonly prefix: string
  readonly timeout: Duration.Duration
  readonly lease: number
  readonly onReady: () => void
}) {
  const { client } = yield* NodeRedis
  const random = yield* Random.Random
  const { lease, timeout } = options
  // The databases of a Redis have all channels in common.
  const database = client.options?.database ?? 0
  const prefix = database === 0 ? options.prefix : `${options.prefix}${database}:`
  const runFork = Effect.runForkWith(yield* Effect.context<never>())

  const bounded = <A>(effect: Effect.Effect<A, BrokerUnavailable>) =>
    Effect.timeoutOrElse(effect, {
      duration: timeout,
      orElse: () => Effect.fail(new BrokerUnavailable({ cause: new Error("Redis did not answer in time") }))
    })
  const attempt = <A>(f: (signal: AbortSignal) => Promise<A>) =>
    bounded(Effect.tryPromise({ try: f, catch: (cause) => new BrokerUnavailable({ cause }) }))

  const connect = Effect.gen(function*() {
    const connection = yield* Effect.acquireRelease(
      Effect.sync(() =>
        client.duplicate({
          // A command that would have to wait for a connection fails instead.
          disableOfflineQueue: true,
          pingInterval: lease / 3,
          socket: {
            ...client.options?.socket,
            socketTimeout: lease,
            reconnectStrategy: (retries: number) =>
              Math.min(50 * 2 ** retries, 1000) * (1 + random.nextDoubleUnsafe() / 4)
          }
        })
      ),
      (connection) =>
        Effect.sync(() => {
          if (connection.isOpen) connection.destroy()
        })
    )
    // Without a listener, an error would end the process.
    connection.on("error", (cause) => runFork(Effect.logDebug("Connection to Redis failed", cause)))
    yield* attempt(() => connection.connect())
    return connection
  })
  const commands = yield* connect
  const subscriber = yield* connect
  // For each channel that is to be left, see below.
  subscriber.setMaxListeners(0)
  let lost = Deferred.makeUnsafe<never, BrokerUnavailable>()
  subscriber.on("reconnecting", () => {
    Deferred.doneUnsafe(lost, Effect.fail(new BrokerUnavailable({ cause: new ClientOfflineError() })))
  })
  subscriber.on("ready", () => {
    lost = Deferred.makeUnsafe()
    options.onReady()
  })

  const evaluate = (script: Script, ...args: ReadonlyArray<string | number | Buffer>) => {
    const parameters = ["0", prefix, ...args.map((arg) => typeof arg === "number" ? String(arg) : arg)]
    const send = (command: string, text: string) =>
      attempt((abortSignal) => commands.sendCommand([command, text, ...parameters], { abortSignal, typeMapping }))
    const whole = send("EVAL", script.lua)
    const reply = script.sha === undefined
      ? whole
      : Effect.catchIf(send("EVALSHA", script.sha), ({ cause }) => String(cause).includes("NOSCRIPT"), () => whole)
    return reply as Effect.Effect<any, BrokerUnavailable>
  }

  const heard = <A>(event: Deferred.Deferred<A>) =>
    Effect.suspend(() =>
      Deferred.isDoneUnsafe(event)
        ? Deferred.await(event)
        : Effect.raceFirst(bounded(Deferred.await(event)), Deferred.await(lost))
    )

  const listen = (shard: number, receive: (bytes: Buffer) => void) => {
    const channel = `${prefix}channel:${shard}`
    // Nobody waits for it. Without a connection, it is done when there is one again.
    const unsubscribe = (): void => {
      subscriber.unsubscribe(channel, receive, true).catch(() => subscriber.once("ready", unsubscribe))
    }
    const subscribe = Effect.onError(
      attempt(() => subscriber.subscribe(channel, receive, true)),
      // Redis may still hear of it, so it has to hear of this after it.
      () => Effect.sync(unsubscribe)
    )
    return Effect.acquireRelease(
      // The client would let it wait for a connection.
      Effect.suspend(() =>
        subscriber.isReady ? subscribe : Effect.fail(new BrokerUnavailable({ cause: new ClientOfflineError() }))
      ),
      () => Effect.sync(unsubscribe)
    )
  }

  return { evaluate, heard, listen }
})
