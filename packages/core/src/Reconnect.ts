/**
 * A client's connection that outlives its sockets.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Pull from "effect/Pull"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { Connection } from "./Connection.ts"
import { window } from "./internal/outbox.ts"
import { Reconnecting } from "./internal/reconnecting.ts"
import type { Message, Prepared } from "./Message.ts"
import type { Overflow } from "./SendQueue.ts"
import * as WebSocketClient from "./WebSocketClient.ts"
import {
  AttemptFailed,
  type CloseError,
  type ConnectError,
  type ConnectionEnded,
  type ReconnectError,
  type SendError
} from "./WebSocketError.ts"

/**
 * The runtime type identifier of reconnecting connections.
 *
 * @category type IDs
 * @since 0.1.0
 */
export const TypeId = "~effect-ws/core/Reconnect"

/**
 * Why there is no connection, or none any more: an attempt failed, or a connection ended.
 *
 * @category models
 * @since 0.1.0
 */
export type Ending = ConnectError | ConnectionEnded | AttemptFailed

/**
 * What to do after an ending: connect again, end normally because the work is done, or fail.
 *
 * @category models
 * @since 0.1.0
 */
export type Decision = "retry" | "done" | "fail"

/**
 * Where a reconnecting connection is.
 *
 * **Details**
 *
 * - `Connecting`: attempt number `attempt` since there was a connection; lasts until `onConnect` has succeeded.
 * - `Open`: messages pass over this `connection`.
 * - `Waiting`: attempt number `attempt` begins at `until`, in milliseconds since 1970. `ending` is why it has to.
 * - `Closed`: the end for good, with the error if it is one.
 *
 * @category models
 * @since 0.1.0
 */
export type State =
  | { readonly _tag: "Connecting"; readonly attempt: number }
  | { readonly _tag: "Open"; readonly connection: Connection }
  | { readonly _tag: "Waiting"; readonly attempt: number; readonly until: number; readonly ending: Ending }
  | { readonly _tag: "Closed"; readonly error: ReconnectError | undefined }

/**
 * Connections to one server, one after the other, that are used as one.
 *
 * @category models
 * @since 0.1.0
 */
export interface ReconnectingConnection {
  readonly [TypeId]: typeof TypeId

  /**
   * What arrives, whichever connection it comes over, a chunk for each read of a socket.
   *
   * **Details**
   *
   * Nothing is read beyond the receive buffer of the current connection until the consumer pulls. The stream ends when the
   * work is done or this side closes, and fails when the connection is given up. What a server sent while there was no
   * connection, the stream cannot know of: `onConnect` has to ask for it.
   *
   * **Gotchas**
   *
   * A chunk belongs to the consumer that pulled it, as with `Connection.messages`.
   */
  readonly messages: Stream.Stream<Message, ReconnectError>
  /** The same, a batch at a time. */
  readonly pull: Pull.Pull<NonEmptyReadonlyArray<Message>, ReconnectError>
  /** Takes one message, and leaves what came with it to the next consumer. */
  readonly receive: Pull.Pull<Message, ReconnectError>

  /**
   * Accepts a message, to be sent over the current connection or the next one. While it cannot be sent, it is buffered, and
   * without room there the overflow policy decides. Interrupting a suspended send sends nothing.
   *
   * **Details**
   *
   * Messages are sent at most once, and in their order. While one is buffered here, the end of a connection does not concern
   * it; once it was handed over to a connection, it is lost if that ends before it has arrived.
   */
  readonly send: (message: Message | Prepared) => Effect.Effect<void, SendError>
  /** Sends messages in order; suspends as `send` does. */
  readonly sendAll: (messages: Iterable<Message | Prepared>) => Effect.Effect<void, SendError>
  /** Messages accepted and not yet handed to a socket. */
  readonly queuedMessages: Effect.Effect<number>
  /** Their bytes. */
  readonly queuedBytes: Effect.Effect<number>

  /**
   * Ends it for good: what was accepted is sent if there is a connection, which is then closed (default 1000). Without one,
   * it is discarded. Closing again waits for the same end.
   */
  readonly close: (code?: number, reason?: string) => Effect.Effect<void, CloseError>
  /** Waits for the end for good; fails as `messages` does. */
  readonly closed: Effect.Effect<void, ReconnectError>
  /** The current state. */
  readonly state: Effect.Effect<State>
  /** The current state and those that follow, until `Closed`; a slow observer misses the oldest of more than 16. */
  readonly changes: Stream.Stream<State>
  /** Begins the next attempt at once, if it is waited for. */
  readonly retryNow: Effect.Effect<void>
}

/**
 * Where, and as whom, to connect. What it names takes the place of the same option of {@link connect}.
 *
 * @category models
 * @since 0.1.0
 */
export interface Target extends Pick<WebSocketClient.ConnectOptions, "headers" | "subprotocols"> {
  readonly url: string | URL
}

/**
 * The options of a reconnecting connection, beside those of each of its connections.
 *
 * **Details**
 *
 * | option | default | meaning |
 * |---|---|---|
 * | `onConnect` | nothing | runs over each new connection before it is used, to log in or subscribe; its failure is that of the attempt |
 * | `classify` | {@link classify} | what to do after an ending |
 * | `schedule` | {@link defaultSchedule} | the delays between attempts; when it ends, so does the connection |
 * | `stableAfter` | 1 minute | how long a connection has to be open for the schedule to begin anew |
 * | `drainSpread` | 5 seconds | a random part of this is added to the delay after 1001, 1012 and 1013 |
 * | `maxQueuedMessages` | 4,096 | messages that wait to be sent |
 * | `maxQueuedBytes` | 1 MiB | their bytes; a single larger message is taken when nothing else waits |
 * | `overflow` | `"suspend"` | what happens to a message that finds no room |
 *
 * The scope of `onConnect` is that of the connection: what it forks there ends with it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<RC = never, RS = never> extends Omit<WebSocketClient.ConnectOptions, "overflow"> {
  readonly onConnect?: ((connection: Connection) => Effect.Effect<unknown, unknown, RC>) | undefined
  readonly classify?: ((ending: Ending) => Decision) | undefined
  readonly schedule?: Schedule.Schedule<unknown, Ending, never, RS> | undefined
  readonly stableAfter?: Duration.Input | undefined
  readonly drainSpread?: Duration.Input | undefined
  readonly overflow?: Exclude<Overflow, object> | undefined
}

/**
 * Connects, and connects again whenever the connection is lost, until the scope closes.
 *
 * **When to use**
 *
 * For a feed, or for messages that are worth nothing twice. For requests that need an answer, use `effect/rpc` over
 * `EffectSocket`, which connects again too and fails the calls that a lost connection leaves unanswered.
 *
 * **Details**
 *
 * It returns at once: see `state` for how it goes. The target may be an effect, which is run for each attempt, to get a token
 * that is still valid. Closing the scope closes the current connection as it would close a connection of its own.
 *
 * **Gotchas**
 *
 * A server that drains tells all clients at once. They come back spread over `drainSpread`.
 *
 * **Example** (A feed that goes on)
 *
 * ```ts
 * import { Reconnect } from "@effect-ws/core"
 * import { Console, Effect, Stream } from "effect"
 *
 * declare const token: Effect.Effect<string>
 *
 * const feed = Effect.gen(function*() {
 *   const prices = yield* Reconnect.connect(
 *     Effect.map(token, (token) => ({ url: "wss://api.example/prices", headers: { authorization: `Bearer ${token}` } })),
 *     { onConnect: (connection) => connection.send("subscribe EURUSD") }
 *   )
 *   yield* Stream.runForEach(prices.messages, (price) => Console.log(price))
 * }).pipe(Effect.scoped)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const connect = <E = never, R = never, RC = never, RS = never>(
  target: string | URL | Effect.Effect<Target, E, R>,
  options: Options<RC, RS> = {}
): Effect.Effect<
  ReconnectingConnection,
  never,
  WebSocketClient.WebSocketClient | Scope.Scope | Exclude<R | RC, Scope.Scope> | RS
> => {
  const connecting = Effect.gen(function*() {
    const client = yield* WebSocketClient.WebSocketClient
    const maxQueuedMessages = options.maxQueuedMessages ?? 4096
    const maxQueuedBytes = options.maxQueuedBytes ?? 1024 * 1024
    const closeTimeout = Duration.fromInputUnsafe(options.closeTimeout ?? "5 seconds")
    const perConnection = {
      ...options,
      // All that is buffered has room in it when the end comes.
      maxQueuedMessages: maxQueuedMessages + window,
      maxQueuedBytes: maxQueuedBytes + window,
      overflow: "suspend"
    } as const
    const targets = Effect.isEffect(target) ? target : Effect.succeed<Target>({ url: target })
    const { onConnect = () => Effect.void } = options
    const reconnecting = new Reconnecting<R | RC | RS>({
      connect: targets.pipe(
        Effect.mapError((cause) => new AttemptFailed({ step: "target", cause })),
        Effect.flatMap(({ url, ...own }) => client.connect(url, { ...perConnection, ...own }))
      ),
      onConnect: (connection) =>
        onConnect(connection).pipe(
          Effect.mapError((cause) => new AttemptFailed({ step: "onConnect", cause })),
          Effect.asVoid
        ),
      classify: options.classify ?? classify,
      delays: Schedule.toStep<unknown, Ending, never, RS>(options.schedule ?? defaultSchedule),
      stableAfter: Duration.fromInputUnsafe(options.stableAfter ?? "1 minute"),
      drainSpread: Duration.fromInputUnsafe(options.drainSpread ?? "5 seconds"),
      receiveBufferBytes: options.receiveBufferBytes ?? 64 * 1024,
      closeTimeout,
      maxQueuedMessages,
      maxQueuedBytes,
      overflow: options.overflow ?? "suspend"
    })
    return yield* Effect.acquireRelease(
      Effect.as(reconnecting.start, reconnecting),
      (reconnecting, exit) => reconnecting.release(exit)
    )
  })
  // The scope of the target and of `onConnect` is that of each connection.
  return connecting as Effect.Effect<
    ReconnectingConnection,
    never,
    Effect.Services<ReturnType<typeof connect<E, R, RC, RS>>>
  >
}

/**
 * The delays by default: exponential from 1 to at most 30 seconds, each a random part of that.
 *
 * @category schedules
 * @since 0.1.0
 */
export const defaultSchedule: Schedule.Schedule<Duration.Duration> = Schedule.min([
  Schedule.exponential("1 second"),
  Schedule.spaced("30 seconds")
]).pipe(Schedule.modifyDelay(({ duration }) => Effect.map(Random.next, (part) => Duration.times(duration, part))))

/**
 * What is done by default after an ending.
 *
 * **Details**
 *
 * | ending | decision |
 * |---|---|
 * | closed with 1000, or without a code (1005) | done |
 * | closed with 1001, 1011, 1012, 1013, 1014 or 3008; lost (1006) | retry |
 * | closed with any other code, by either side: 1002, 1003, 1007 to 1010, 3000 to 4999 | fail |
 * | rejected with 408, 425, 429 or 5xx | retry, not before the response's `Retry-After` |
 * | rejected with another status | fail |
 * | `HostNotFound`, `ConnectionRefused`, `NetworkFailure`, `ConnectTimeout`, `Undisclosed` | retry |
 * | `ProxyUnreachable`, `ProxyFailure` | retry |
 * | `ProxyRefused` with a 5xx, 408, 425, 429, or because a SOCKS proxy cannot reach the server (1, 3 to 6) | retry |
 * | `ProxyRefused` otherwise, `ProxyAuthenticationRequired`, `InvalidProxy`, `RedirectRefused` | fail |
 * | `InvalidUrl`, `InvalidRequest`, `Unsupported`, `CertificateRejected`, `BadUpgrade` | fail |
 * | the target's effect or `onConnect` failed | retry |
 *
 * **Example** (Coming back after 4000, too)
 *
 * ```ts
 * import { Reconnect } from "@effect-ws/core"
 *
 * const classify = (ending: Reconnect.Ending): Reconnect.Decision =>
 *   ending._tag === "ConnectionEnded" && ending.closeEvent.code === 4000 ? "retry" : Reconnect.classify(ending)
 * ```
 *
 * @category classification
 * @since 0.1.0
 */
export const classify = (ending: Ending): Decision => {
  switch (ending._tag) {
    case "AttemptFailed":
      return "retry"
    case "ConnectionEnded":
      return ofCode(ending.closeEvent.code)
    case "ConnectError":
      return ofFailure(ending.reason)
  }
}

// RFC 6455, section 7.4.1, and the registry of IANA: 1012 service restart, 1013 try again later, 1014 bad gateway, 3008
// timeout. What is not about the server's condition says that going on as before makes no sense.
const ofCode = (code: number): Decision => {
  if (code === 1000 || code === 1005) return "done"
  return [1001, 1006, 1011, 1012, 1013, 1014, 3008].includes(code) ? "retry" : "fail"
}

const ofFailure = (reason: ConnectError["reason"]): Decision => {
  switch (reason._tag) {
    case "HostNotFound":
    case "ConnectionRefused":
    case "NetworkFailure":
    case "ConnectTimeout":
    case "Undisclosed":
    case "ProxyUnreachable":
    case "ProxyFailure":
      return "retry"
    case "UpgradeRejected":
      return ofStatus(reason.status)
    case "ProxyRefused":
      // RFC 1928, section 6: replies are below all statuses.
      return [1, 3, 4, 5, 6].includes(reason.code) ? "retry" : ofStatus(reason.code)
    case "InvalidUrl":
    case "InvalidRequest":
    case "Unsupported":
    case "CertificateRejected":
    case "BadUpgrade":
    case "RedirectRefused":
    case "InvalidProxy":
    case "ProxyAuthenticationRequired":
      return "fail"
  }
}

const ofStatus = (status: number): Decision => status >= 500 || [408, 425, 429].includes(status) ? "retry" : "fail"
