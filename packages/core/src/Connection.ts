/**
 * A WebSocket connection as a scoped resource.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import { hasProperty } from "effect/Predicate"
import type * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { Attachment } from "./Attachment.ts"
import type { CloseEvent } from "./CloseEvent.ts"
import type { NegotiatedDeflate } from "./Compression.ts"
import type { ConnectionMetrics } from "./ConnectionMetrics.ts"
import type { Heartbeat } from "./Heartbeat.ts"
import { open } from "./internal/connection.ts"
import { Deadlines } from "./internal/deadlines.ts"
import type { SessionSettings } from "./internal/session.ts"
import type { Message, Prepared } from "./Message.ts"
import type { Extension } from "./protocol/ExtensionHeader.ts"
import type { Role } from "./protocol/Frame.ts"
import type { Headers } from "./protocol/Handshake.ts"
import * as Utf8 from "./protocol/Utf8.ts"
import type { Overflow } from "./SendQueue.ts"
import type { Address, Capability, Transport } from "./Transport.ts"
import type { CloseError, ConnectionError, SendError } from "./WebSocketError.ts"

/**
 * The runtime type identifier of connections.
 *
 * @category type IDs
 * @since 0.1.0
 */
export const TypeId = "~effect-ws/core/Connection"

/**
 * Where a connection is in its life.
 *
 * **Details**
 *
 * A connection begins with `"Open"`. `"Closing"` begins when either side starts to close.
 *
 * @category models
 * @since 0.1.0
 */
export type ConnectionState = "Open" | "Closing" | "Closed"

/**
 * A Ping or Pong that arrived (RFC 6455, sections 5.5.2 and 5.5.3).
 *
 * @category models
 * @since 0.1.0
 */
export interface ControlFrame {
  readonly _tag: "Ping" | "Pong"
  readonly payload: Uint8Array
}

/**
 * What the opening handshake settled (RFC 6455, section 4).
 *
 * **Details**
 *
 * `request` is the client's, `response` the server's; header names are in lower case.
 *
 * @category models
 * @since 0.1.0
 */
export interface HandshakeResult {
  readonly subprotocol: string | undefined
  readonly extensions: ReadonlyArray<Extension>
  readonly request: { readonly url: string; readonly headers: Headers }
  readonly response: { readonly status: number; readonly headers: Headers }
}

/**
 * One WebSocket connection, of either role, over any transport.
 *
 * **Details**
 *
 * Receiving is demand-driven, sending passes a bounded queue, and closing the scope that the connection lives in closes
 * the connection.
 *
 * @category models
 * @since 0.1.0
 */
export interface Connection {
  readonly [TypeId]: typeof TypeId
  readonly role: Role
  /** What this connection can do beyond what all can: over sockets, everything; in a browser, nothing. */
  readonly capabilities: ReadonlySet<Capability>
  readonly subprotocol: Option.Option<string>
  readonly extensions: ReadonlyArray<Extension>
  readonly peerAddress: Option.Option<Address>
  readonly localAddress: Option.Option<Address>
  readonly request: HandshakeResult["request"]
  readonly response: HandshakeResult["response"]

  /**
   * What arrives, one chunk for each read of the socket, or several if it brought more than 1,024 messages.
   *
   * **Details**
   *
   * Nothing is read from the socket beyond the receive buffer until the consumer pulls, so a slow consumer slows the peer
   * down through TCP. The stream ends when the peer closes with 1000, 1001 or no code, or when this side closes; otherwise
   * it fails. An interrupted consumer that was waiting has taken nothing, and the next one goes on.
   *
   * **Gotchas**
   *
   * A chunk belongs to the consumer that pulled it: what `Stream.take` or an interruption leaves of it is gone. Use
   * {@link Connection.receive} to take single messages.
   */
  readonly messages: Stream.Stream<Message, ConnectionError>
  /** The same, a batch at a time: the fastest way to receive. */
  readonly pull: Pull.Pull<NonEmptyReadonlyArray<Message>, ConnectionError>
  /** Takes one message, and leaves what came with it to the next consumer. Fails with `Cause.Done` at the end. */
  readonly receive: Pull.Pull<Message, ConnectionError>

  /**
   * Sends a message: succeeds when the outbound queue has accepted it, and suspends while the queue is full (or does what
   * the overflow policy says). Interrupting a suspended send sends nothing.
   *
   * **Gotchas**
   *
   * A large array is not copied: do not change it before the queue is {@link Connection.drained}.
   */
  readonly send: (message: Message | Prepared) => Effect.Effect<void, SendError>
  /** Sends messages in order; suspends as `send` does. */
  readonly sendAll: (messages: Iterable<Message | Prepared>) => Effect.Effect<void, SendError>
  /**
   * Sends one message whose fragments are the elements of a stream (RFC 6455, section 5.4): text if they are strings,
   * binary if they are bytes. Control frames may go in between, other messages wait their turn. An empty stream sends
   * nothing. Needs the capability `"Fragments"`.
   *
   * **Gotchas**
   *
   * A message that has begun cannot be taken back: if the stream fails or is interrupted after its first element, the
   * connection is closed with 1011.
   */
  readonly sendStream: <E, R>(
    fragments: Stream.Stream<string, E, R> | Stream.Stream<Uint8Array, E, R>
  ) => Effect.Effect<void, SendError | E, R>
  /**
   * Sends without an effect, for loops over many connections: `"Full"` means that the queue has no room and the policy
   * (this connection's, unless given) is `"suspend"` or `"fail"`.
   */
  readonly sendUnsafe: (
    message: Message | Prepared,
    overflow?: Overflow
  ) => "Accepted" | "Dropped" | "Full" | "NotOpen"

  /** Sends a Ping and waits for its own Pong: the round-trip time. This and the next three need `"ControlFrames"`. */
  readonly ping: Effect.Effect<Duration.Duration, SendError>
  /** Sends a Ping with a payload of at most 125 bytes, and waits for nothing. */
  readonly sendPing: (payload?: Uint8Array) => Effect.Effect<void, SendError>
  /** Sends an unsolicited Pong with a payload of at most 125 bytes (RFC 6455, section 5.5.3). */
  readonly sendPong: (payload?: Uint8Array) => Effect.Effect<void, SendError>
  /** The Pings and Pongs that arrive, none without that capability; a slow observer misses the oldest of more than 64. */
  readonly controls: Stream.Stream<ControlFrame>

  /** Messages accepted and not yet handed to the socket. */
  readonly queuedMessages: Effect.Effect<number>
  /** Bytes of frames not yet handed to the socket. */
  readonly queuedBytes: Effect.Effect<number>
  /** Waits until nothing is queued; fails if the connection ends with something unsent. */
  readonly drained: Effect.Effect<void, SendError>

  /** Stops reading, on top of demand, until `resume`. Both may be repeated, and do nothing once closing has begun. */
  readonly pause: Effect.Effect<void>
  /** Reads on after `pause`. */
  readonly resume: Effect.Effect<void>

  /**
   * Closes: sends what is queued, then a Close frame (default 1000), waits for the peer's, and drops the socket, at the
   * latest after the close timeout. Closing again waits for the same end.
   */
  readonly close: (code?: number, reason?: string) => Effect.Effect<void, CloseError>
  /** Drops the socket at once. */
  readonly abort: Effect.Effect<void>
  /** Waits for the end of the connection. */
  readonly closed: Effect.Effect<CloseEvent>
  /** The current state. */
  readonly state: Effect.Effect<ConnectionState>
  /** The current state and those that follow, until `"Closed"`. */
  readonly changes: Stream.Stream<ConnectionState>

  /** Attaches a value to the connection, in place of the one that the key had. */
  readonly attach: <A>(key: Attachment<A>, value: A) => Effect.Effect<void>
  /** The value attached under a key. */
  readonly attachment: <A>(key: Attachment<A>) => Effect.Effect<Option.Option<A>>
}

/**
 * The limits and policies of a connection, all optional. Sizes are in bytes.
 *
 * **Details**
 *
 * | option | default | what it bounds |
 * |---|---|---|
 * | `maxMessageBytes` | 1 MiB | a received message, over all its fragments and inflated; more is answered 1009. 512 MiB less 24 bytes, the longest string there is, at most |
 * | `maxFragments` | 1,024 | the fragments of a received message; more is answered 1008 |
 * | `maxControlFramesPerSecond` | 1,000 | Pings, Pongs and Closes received; more is answered 1008 |
 * | `receiveBufferBytes` | 64 KiB | received messages that nobody has pulled, before reading stops |
 * | `maxQueuedMessages` | 4,096 | messages that wait to be sent |
 * | `maxQueuedBytes` | 1 MiB | the bytes of their frames; a single larger message is taken when nothing else waits |
 * | `overflow` | `"suspend"` | what happens to a message that finds the queue full |
 * | `closeTimeout` | 5 seconds | the whole of closing: draining, the peer's Close, the end of the socket |
 *
 * With `debug`, what happens on the connection is logged at debug level: how its handshake ended, each frame with its
 * opcode, size and `fin`, but not its payload, and how the connection ended.
 *
 * `wrap` is put around the transport of each connection, for instance to record what passes: it is called once, when the
 * handshake is done, and what it gives back is used instead. A `wrap` that throws is a defect, and drops the transport.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConnectionOptions {
  readonly maxMessageBytes?: number | undefined
  readonly maxFragments?: number | undefined
  readonly maxControlFramesPerSecond?: number | undefined
  readonly receiveBufferBytes?: number | undefined
  readonly maxQueuedMessages?: number | undefined
  readonly maxQueuedBytes?: number | undefined
  readonly overflow?: Overflow | undefined
  readonly closeTimeout?: Duration.Input | undefined
  readonly debug?: boolean | undefined
  readonly wrap?: ((transport: Transport, handshake: HandshakeResult) => Transport) | undefined
}

/**
 * What a platform adds to the limits and policies of its connections.
 *
 * **Details**
 *
 * `maskKey` makes the masking keys of a client, from strong randomness (see `protocol/Mask`); having it makes the
 * connection a client's. `utf8` is the platform's text codec; the portable one by default. Without a `heartbeat`, a silent
 * peer is not noticed. `metrics` are there if they are turned on.
 *
 * @category models
 * @since 0.1.0
 */
export interface SettingsOptions extends ConnectionOptions {
  readonly maskKey?: (() => number) | undefined
  readonly utf8?: Utf8.Utf8Codec | undefined
  readonly heartbeat?: Heartbeat | undefined
  readonly metrics?: ConnectionMetrics | undefined
}

/**
 * What any number of connections go by, with every default in its place; made by {@link settings}.
 *
 * @category models
 * @since 0.1.0
 */
export interface Settings extends SessionSettings {
  readonly debug: boolean
  readonly wrap: ConnectionOptions["wrap"]
}

/**
 * What is one connection's own: what its handshake settled, and how messages are compressed if that agreed on
 * permessage-deflate.
 *
 * @category models
 * @since 0.1.0
 */
export interface Established {
  readonly handshake: HandshakeResult
  readonly deflate?: NegotiatedDeflate | undefined
}

/**
 * Tells whether a value is a connection.
 *
 * @category guards
 * @since 0.1.0
 */
export const isConnection = (u: unknown): u is Connection => hasProperty(u, TypeId)

// What V8 takes; a longer message could not be handed over, if it were text.
const longestText = 2 ** 29 - 24

/**
 * Makes the settings of connections. They keep the clock and the context that they are made in.
 *
 * @category constructors
 * @since 0.1.0
 */
export const settings = (options: SettingsOptions): Effect.Effect<Settings> =>
  Effect.contextWith((context: Context.Context<never>) =>
    Effect.clockWith((clock) => {
      const { heartbeat, maskKey, metrics, utf8 = Utf8.portable, wrap } = options
      const runFork = Effect.runForkWith(context)
      const closeTimeout = Duration.fromInputUnsafe(options.closeTimeout ?? "5 seconds")
      return Effect.succeed({
        maskKey,
        utf8,
        heartbeat,
        metrics,
        engine: {
          role: maskKey === undefined ? "server" as const : "client" as const,
          limits: {
            maxMessageBytes: Math.min(options.maxMessageBytes ?? 1024 * 1024, longestText),
            maxFragments: options.maxFragments ?? 1024,
            maxControlFramesPerSecond: options.maxControlFramesPerSecond ?? 1000
          },
          utf8
        },
        receiveBufferBytes: options.receiveBufferBytes ?? 64 * 1024,
        maxQueuedMessages: options.maxQueuedMessages ?? 4096,
        maxQueuedBytes: options.maxQueuedBytes ?? 1024 * 1024,
        overflow: options.overflow ?? "suspend",
        closing: new Deadlines(closeTimeout, clock, runFork),
        debug: options.debug ?? false,
        wrap,
        clock,
        runFork
      })
    })
  )

/**
 * Makes a connection from a transport whose handshake is done.
 *
 * **When to use**
 *
 * To write a server or a client for a platform. Applications get connections from `WebSocketServer.serve` and
 * `WebSocketClient.connect`.
 *
 * **Details**
 *
 * The connection lives in the scope. When that closes, the connection is closed: with 1000 if the scope succeeded, 1001 if
 * it was interrupted, 1011 if it failed or died; in any case within the close timeout.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  transport: Transport,
  settings: Settings,
  established: Established
): Effect.Effect<Connection, never, Scope.Scope> =>
  Effect.acquireRelease(
    open(transport, settings, established),
    (connection, exit) => connection.release(exit)
  )
