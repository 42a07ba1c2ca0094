/**
 * Connections whose messages are values of schemas.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Layer from "effect/Layer"
import type * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Connection } from "./Connection.ts"
import type { Message, Prepared } from "./Message.ts"
import type { MessageCodec } from "./MessageCodec.ts"
import * as WebSocketClient from "./WebSocketClient.ts"
import type { ConnectError, DecodeError, EncodeError } from "./WebSocketError.ts"
import * as WebSocketServer from "./WebSocketServer.ts"

/**
 * What a typed connection needs to be made of: a `Connection`, or whatever else sends and receives messages.
 *
 * @category models
 * @since 0.1.0
 */
export interface Messaging {
  readonly pull: Pull.Pull<Arr.NonEmptyReadonlyArray<Message>, any>
  readonly receive: Pull.Pull<Message, any>
  readonly send: (message: Message | Prepared) => Effect.Effect<void, any>
  readonly sendAll: (messages: Iterable<Message | Prepared>) => Effect.Effect<void, any>
  readonly close: (code?: number, reason?: string) => Effect.Effect<unknown, any>
}

/**
 * What happens to a message that does not decode.
 *
 * **Details**
 *
 * - `"fail"`: reading fails with a `DecodeError`, behind the messages that came before. Whoever reads on gets what follows.
 * - `"close"`: the connection is closed with the error's `closeCode`; then reading fails in the same way.
 * - `{ close }`: the same, with a code of one's own.
 * - `"skip"`: it is passed over and counted; see {@link TypedConnection.skipped}.
 *
 * @category models
 * @since 0.1.0
 */
export type Undecodable = "fail" | "close" | { readonly close: number } | "skip"

/**
 * What comes in, what goes out, and what happens to a message that does not decode (default `"fail"`). The other side's
 * protocol is the same with `incoming` and `outgoing` exchanged.
 *
 * @category models
 * @since 0.1.0
 */
export interface Protocol<in out In, in out Out, out RD = never, out RE = never> {
  readonly incoming: MessageCodec<In, RD, any>
  readonly outgoing: MessageCodec<Out, any, RE>
  readonly undecodable?: Undecodable | undefined
}

/**
 * A connection that receives `In` and sends `Out`.
 *
 * **Details**
 *
 * Whatever is not said here is done with the `connection`.
 *
 * **Gotchas**
 *
 * Read here or from the `connection`, not from both: what follows a message that did not decode, in its batch, waits here.
 *
 * @category models
 * @since 0.1.0
 */
export interface TypedConnection<out In, in Out, out RD = never, out RE = never, out C extends Messaging = Connection> {
  readonly connection: C
  /** What arrives, in the batches of the connection. A schema that decodes asynchronously makes batches of one. */
  readonly messages: Stream.Stream<In, DecodeError | Pull.Error<C["pull"]>, RD>
  /** The same, a batch at a time. */
  readonly pull: Pull.Pull<Arr.NonEmptyReadonlyArray<In>, DecodeError | Pull.Error<C["pull"]>, void, RD>
  /** Takes one message, and leaves what came with it to the next consumer. */
  readonly receive: Pull.Pull<In, DecodeError | Pull.Error<C["pull"]>, void, RD>
  /** Encodes a value and sends it. What was prepared by the codec is sent with the `connection`. */
  readonly send: (value: Out) => Effect.Effect<void, EncodeError | Effect.Error<ReturnType<C["send"]>>, RE>
  /** Sends values in order. When one does not encode, those before it are sent. */
  readonly sendAll: (
    values: Iterable<Out>
  ) => Effect.Effect<void, EncodeError | Effect.Error<ReturnType<C["sendAll"]>>, RE>
  /** How many messages did not decode and were skipped. */
  readonly skipped: Effect.Effect<number>
}

/**
 * Makes a typed view of a connection.
 *
 * **Example** (A handler of values)
 *
 * ```ts
 * import { type Connection, MessageCodec, TypedConnection } from "@effect-ws/core"
 * import { Schema, Stream } from "effect"
 *
 * const Question = MessageCodec.json(Schema.Struct({ add: Schema.Array(Schema.Finite) }))
 * const Answer = MessageCodec.json(Schema.Struct({ sum: Schema.Finite }))
 *
 * const handler = (connection: Connection.Connection) => {
 *   const client = TypedConnection.make(connection, { incoming: Question, outgoing: Answer })
 *   return Stream.runForEach(client.messages, ({ add }) => client.send({ sum: add.reduce((a, b) => a + b, 0) }))
 * }
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <C extends Messaging, In, Out, RD, RE>(
  connection: C,
  protocol: Protocol<In, Out, RD, RE>
): TypedConnection<In, Out, RD, RE, C> => new View(connection, protocol)

/**
 * Connects to a URL, and speaks the protocol there; otherwise the same as `WebSocketClient.connect`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const connect = <In, Out, RD, RE>(
  protocol: Protocol<In, Out, RD, RE>,
  url: string | URL,
  options?: WebSocketClient.ConnectOptions
): Effect.Effect<
  TypedConnection<In, Out, RD, RE>,
  ConnectError,
  WebSocketClient.WebSocketClient | Scope.Scope
> => Effect.map(WebSocketClient.connect(url, options), (connection) => make(connection, protocol))

/**
 * Runs a handler for each connection, which speaks the protocol; otherwise the same as `WebSocketServer.serve`.
 *
 * **Details**
 *
 * When the handler fails with the `DecodeError` of its own connection, that is closed with the error's `closeCode`: it is
 * the client's mistake. It is logged at debug level.
 *
 * **Example** (Adding up)
 *
 * ```ts
 * import { MessageCodec, TypedConnection } from "@effect-ws/core"
 * import { Schema, Stream } from "effect"
 *
 * const Question = MessageCodec.json(Schema.Struct({ add: Schema.Array(Schema.Finite) }))
 * const Answer = MessageCodec.json(Schema.Struct({ sum: Schema.Finite }))
 *
 * const Adder = TypedConnection.serve({ incoming: Question, outgoing: Answer }, (client) =>
 *   Stream.runForEach(client.messages, ({ add }) => client.send({ sum: add.reduce((a, b) => a + b, 0) }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const serve: {
  <In, Out, RD, RE, E, R>(
    protocol: Protocol<In, Out, RD, RE>,
    handler: (connection: TypedConnection<In, Out, RD, RE>) => Effect.Effect<unknown, E, R>,
    options?: WebSocketServer.ServeOptions<void, never> & { readonly handshake?: undefined }
  ): Layer.Layer<never, never, WebSocketServer.WebSocketServer | Exclude<R, Scope.Scope>>
  <In, Out, RD, RE, E, R, Data, RH>(
    protocol: Protocol<In, Out, RD, RE>,
    handler: (connection: TypedConnection<In, Out, RD, RE>, data: NoInfer<Data>) => Effect.Effect<unknown, E, R>,
    options: WebSocketServer.ServeOptions<Data, RH>
  ): Layer.Layer<never, never, WebSocketServer.WebSocketServer | Exclude<R, Scope.Scope> | RH>
} = <In, Out, RD, RE, E, R, Data, RH>(
  protocol: Protocol<In, Out, RD, RE>,
  handler: (connection: TypedConnection<In, Out, RD, RE>, data: Data) => Effect.Effect<unknown, E, R>,
  options: WebSocketServer.ServeOptions<Data, RH> = {}
): Layer.Layer<never, never, WebSocketServer.WebSocketServer | Exclude<R, Scope.Scope> | RH> =>
  WebSocketServer.serve((connection, data: Data) => {
    const view = new View(connection, protocol)
    return Effect.catch(handler(view, data), (error) => {
      // Another connection's error, such as that of a proxy's other side, is not this client's mistake.
      const { failure } = view
      if (failure === undefined || error as unknown !== failure) return Effect.fail(error)
      return Effect.andThen(
        Effect.logDebug("WebSocket message did not decode", failure),
        closeFor(connection, failure, failure.closeCode)
      )
    })
  }, options)

// Only a code that may not travel fails, and codes are the program's own.
const closeFor = (connection: Messaging, error: DecodeError, code: number): Effect.Effect<void> =>
  Effect.asVoid(Effect.orDie(connection.close(code, error.reason._tag)))

const nothing: ReadonlyArray<Message> = []

class View<In, Out, RD, RE, C extends Messaging> implements TypedConnection<In, Out, RD, RE, C> {
  readonly connection: C
  private readonly protocol: Protocol<In, Out, RD, RE>
  // What was taken from the connection; all before `at` is handed over.
  private batch = nothing
  private at = 0
  private skippedMessages = 0
  /** What reading failed with. */
  failure: DecodeError | undefined

  constructor(connection: C, protocol: Protocol<In, Out, RD, RE>) {
    this.connection = connection
    this.protocol = protocol
  }

  get messages() {
    return Stream.fromPull(Effect.succeed(this.pull))
  }
  get pull() {
    return this.take(Infinity)
  }
  get receive() {
    return Effect.map(this.take(1), ([value]) => value)
  }
  get send() {
    return (value: Out) =>
      Effect.suspend(() =>
        Effect.flatMap(this.protocol.outgoing.encode(value), (message) => this.connection.send(message))
      )
  }
  get sendAll() {
    return (values: Iterable<Out>) => sendAll(this.connection, this.protocol.outgoing, values)
  }
  get skipped() {
    return Effect.sync(() => this.skippedMessages)
  }

  private take(limit: number): Taken<In, RD, C> {
    return Effect.suspend(() => {
      if (this.at < this.batch.length) return this.decode(limit)
      const { pull, receive } = this.connection
      return Effect.flatMap(limit === 1 ? Effect.map(receive, Arr.of) : pull, (batch) => {
        // Another consumer may have left something meanwhile.
        this.batch = this.at < this.batch.length ? [...this.batch.slice(this.at), ...batch] : batch
        this.at = 0
        return this.decode(limit)
      })
    })
  }

  // What takes time or fails comes by itself, behind what was there before.
  private decode(limit: number): Taken<In, RD, C> {
    const values: Array<In> = []
    while (this.at < this.batch.length && values.length < limit) {
      const message = this.batch[this.at]!
      const decoding = this.protocol.incoming.decode(message)
      const decoded = Exit.isExit(decoding) ? decoding as Exit.Exit<In, DecodeError> : undefined
      if (decoded?._tag === "Success") {
        values.push(decoded.value)
      } else if (decoded !== undefined && this.isSkipping) {
        this.skippedMessages++
      } else if (values.length > 0) {
        break
      } else {
        this.at++
        return this.decodeAlone(message, decoding, limit)
      }
      this.at++
    }
    if (this.at === this.batch.length) {
      this.batch = nothing
      this.at = 0
    }
    return Arr.isArrayNonEmpty(values) ? Effect.succeed(values) : this.take(limit)
  }

  private decodeAlone(message: Message, decoding: Effect.Effect<In, DecodeError, RD>, limit: number): Taken<In, RD, C> {
    return decoding.pipe(
      Effect.onInterrupt(() =>
        Effect.sync(() => {
          this.batch = [message, ...this.batch.slice(this.at)]
          this.at = 0
        })
      ),
      Effect.matchEffect({
        onSuccess: (value) => Effect.succeed(Arr.of(value)),
        onFailure: (error) => this.isSkipping ? this.skip(limit) : this.fail(error)
      })
    )
  }

  private get isSkipping(): boolean {
    return this.protocol.undecodable === "skip"
  }

  private skip(limit: number): Taken<In, RD, C> {
    this.skippedMessages++
    return this.take(limit)
  }

  private fail(error: DecodeError): Effect.Effect<never, DecodeError> {
    this.failure = error
    const { undecodable = "fail" } = this.protocol
    if (undecodable === "fail" || undecodable === "skip") return Effect.fail(error)
    const code = undecodable === "close" ? error.closeCode : undecodable.close
    return Effect.andThen(closeFor(this.connection, error, code), Effect.fail(error))
  }
}

type Taken<In, RD, C extends Messaging> = Pull.Pull<
  Arr.NonEmptyReadonlyArray<In>,
  DecodeError | Pull.Error<C["pull"]>,
  void,
  RD
>

const sendAll = Effect.fnUntraced(function*<Out, RE>(
  connection: Messaging,
  codec: MessageCodec<Out, any, RE>,
  values: Iterable<Out>
) {
  let messages: Array<Message> = []
  for (const value of values) {
    const encoding = codec.encode(value)
    const encoded = Exit.isExit(encoding) ? encoding as Exit.Exit<Message, EncodeError> : undefined
    messages.push(
      encoded?._tag === "Success"
        ? encoded.value
        : yield* Effect.tapError(encoding, () => connection.sendAll(messages))
    )
    if (messages.length === maxEncoded) {
      yield* connection.sendAll(messages)
      messages = []
    }
  }
  yield* connection.sendAll(messages)
})

// So many messages are encoded before they are sent.
const maxEncoded = 1024
