/**
 * The effects that users call, over a session.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import type { Attachment } from "../Attachment.ts"
import type { CloseEvent } from "../CloseEvent.ts"
import type {
  Connection,
  ConnectionState,
  ControlFrame,
  Established,
  HandshakeResult,
  Settings
} from "../Connection.ts"
import type { Message, Prepared } from "../Message.ts"
import { formatExtensions } from "../protocol/ExtensionHeader.ts"
import { maxControlPayload, Opcode } from "../protocol/Frame.ts"
import type { Overflow } from "../SendQueue.ts"
import type { Capability, Transport } from "../Transport.ts"
import * as Errors from "../WebSocketError.ts"
import * as DebugLog from "./debugLog.ts"
import { invalidClose } from "./invalidClose.ts"
import { type Observers, Session, type SessionSettings } from "./session.ts"
import { sendStream } from "./streamedMessage.ts"

const TypeId: Connection["~effect-ws/core/Connection"] = "~effect-ws/core/Connection"

// Allocated when first used: an idle connection needs none of it.
interface Extras {
  streamTurn?: Semaphore.Semaphore
  attachments?: Map<unknown, unknown>
}

/**
 * A connection. Its effects are made when they are asked for, so that an idle one holds little more than its session.
 */
export class ConnectionImpl implements Connection {
  private readonly session: Session
  private readonly handshake: HandshakeResult
  private extras: Extras | undefined

  constructor(transport: Transport, settings: SessionSettings, { deflate, handshake }: Established) {
    this.session = new Session(transport, settings, deflate)
    this.handshake = handshake
  }

  start(): void {
    this.session.start()
  }

  /** Closes as the scope's exit says, and waits for the end. */
  release(exit: Exit.Exit<unknown, unknown>): Effect.Effect<CloseEvent> {
    return Effect.suspend(() => {
      this.session.release({ code: closeCodeOf(exit), reason: "" })
      return this.closed
    })
  }

  /** Why the connection ended, unless that was ordinary. */
  get failure() {
    return this.session.failure
  }

  get [TypeId]() {
    return TypeId
  }
  get role() {
    return this.session.settings.maskKey === undefined ? "server" : "client"
  }
  get capabilities() {
    return this.session.transport.capabilities
  }
  get subprotocol() {
    return Option.fromUndefinedOr(this.handshake.subprotocol)
  }
  get extensions() {
    return this.handshake.extensions
  }
  get request() {
    return this.handshake.request
  }
  get response() {
    return this.handshake.response
  }
  get peerAddress() {
    return Option.fromUndefinedOr(this.session.transport.peerAddress)
  }
  get localAddress() {
    return Option.fromUndefinedOr(this.session.transport.localAddress)
  }

  get messages(): Stream.Stream<Message, Errors.ConnectionError> {
    return Stream.fromPull(Effect.succeed(this.pull))
  }
  get pull() {
    return this.session.receiving.pull
  }
  get receive() {
    return this.session.receiving.receive
  }
  get pause(): Effect.Effect<void> {
    return Effect.sync(() => this.session.setPaused(true))
  }
  get resume(): Effect.Effect<void> {
    return Effect.sync(() => this.session.setPaused(false))
  }
  get controls(): Stream.Stream<ControlFrame> {
    return Stream.callback<ControlFrame>((queue) => this.observe(this.session.controlObservers ??= new Set(), queue), {
      bufferSize: 64,
      strategy: "sliding"
    })
  }

  // Functions are made when they are asked for, as effects are, so that they may be passed on by themselves.
  get send() {
    return (message: Message | Prepared) => this.session.sending.send(message)
  }
  get sendAll() {
    return (messages: Iterable<Message | Prepared>) => this.session.sending.sendAll(messages)
  }
  get sendUnsafe() {
    return (message: Message | Prepared, overflow?: Overflow) =>
      this.session.sending.sendUnsafe(message, overflow ?? this.session.settings.overflow)
  }
  get sendStream() {
    return <E, R>(fragments: Stream.Stream<string, E, R> | Stream.Stream<Uint8Array, E, R>) =>
      this.requires("Fragments", () => {
        const extras = this.extras ??= {}
        const turn = extras.streamTurn ??= Semaphore.makeUnsafe(1)
        const onTorn = () => this.session.beginClose({ code: 1011, reason: "message not completed" }, false)
        return turn.withPermit(sendStream(this.session.sending, fragments, onTorn))
      })
  }

  get ping(): Effect.Effect<Duration.Duration, Errors.SendError> {
    return this.requires("ControlFrames", () => {
      const { pings, sending, settings: { clock } } = this.session
      const payload = pings.next()
      const sentAt = clock.monotonicTimeNanosUnsafe()
      return sending.sendControl(Opcode.ping, payload).pipe(
        Effect.andThen(pings.answered(payload)),
        Effect.map(() => Duration.nanos(clock.monotonicTimeNanosUnsafe() - sentAt))
      )
    })
  }
  get sendPing() {
    return (payload?: Uint8Array) => this.sendControl(Opcode.ping, payload)
  }
  get sendPong() {
    return (payload?: Uint8Array) => this.sendControl(Opcode.pong, payload)
  }

  get queuedMessages(): Effect.Effect<number> {
    return Effect.sync(() => this.session.sending.queuedMessages)
  }
  get queuedBytes(): Effect.Effect<number> {
    return Effect.sync(() => this.session.sending.queuedBytes)
  }
  get drained() {
    return this.session.sending.awaitDrained
  }

  get close() {
    return (code = 1000, reason = ""): Effect.Effect<void, Errors.CloseError> =>
      Effect.suspend(() => {
        const invalid = invalidClose(code, reason, this.session.settings.utf8)
        if (invalid !== undefined) return Effect.fail(invalid)
        this.session.beginClose({ code, reason }, false)
        return Effect.asVoid(this.closed)
      })
  }
  get abort(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.session.drop()
      return Effect.asVoid(this.closed)
    })
  }
  get closed(): Effect.Effect<CloseEvent> {
    return this.session.closed
  }
  get state(): Effect.Effect<ConnectionState> {
    return Effect.sync(() => this.session.state)
  }
  get changes(): Stream.Stream<ConnectionState> {
    return Stream.callback<ConnectionState>((queue) =>
      this.observe(this.session.stateObservers ??= new Set(), queue, (state) => Queue.offerUnsafe(queue, state))
    )
  }

  get attach() {
    return <A>(key: Attachment<A>, value: A): Effect.Effect<void> =>
      Effect.sync(() => {
        const extras = this.extras ??= {}
        ;(extras.attachments ??= new Map()).set(key, value)
      })
  }
  get attachment() {
    return <A>(key: Attachment<A>): Effect.Effect<Option.Option<A>> =>
      Effect.sync(() => {
        const attachments = this.extras?.attachments
        return attachments?.has(key) ? Option.some(attachments.get(key) as A) : Option.none()
      })
  }

  // Looks at the state and registers in one step, or the end could come in between.
  private observe<A>(
    observers: Observers<A>,
    queue: Queue.Queue<A, Cause.Done>,
    onStart: (state: ConnectionState) => void = () => {}
  ): Effect.Effect<void, never, Scope.Scope> {
    return Effect.acquireRelease(
      Effect.sync(() => {
        const { state } = this.session
        onStart(state)
        if (state === "Closed") Queue.endUnsafe(queue)
        else observers.add(queue)
      }),
      () => Effect.sync(() => observers.delete(queue))
    )
  }

  private sendControl(opcode: Opcode, payload: Uint8Array = new Uint8Array(0)): Effect.Effect<void, Errors.SendError> {
    return this.requires("ControlFrames", () => {
      const bytes = payload.length
      return bytes > maxControlPayload
        ? Effect.fail(new Errors.SendError({ reason: new Errors.ControlPayloadTooLong({ bytes }) }))
        : this.session.sending.sendControl(opcode, payload)
    })
  }

  private requires<A, E, R>(
    feature: Capability,
    effect: () => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | Errors.SendError, R> {
    return Effect.suspend((): Effect.Effect<A, E | Errors.SendError, R> =>
      this.capabilities.has(feature)
        ? effect()
        : Effect.fail(new Errors.SendError({ reason: new Errors.Unsupported({ feature }) }))
    )
  }
}

/**
 * Opens a connection that the caller owns: nothing may interrupt before it is sure to be released.
 */
export const open = (
  transport: Transport,
  settings: Settings,
  established: Established
): Effect.Effect<ConnectionImpl> =>
  Effect.suspend(() => {
    if (settings.wrap !== undefined) return openWrapped(transport, settings, established)
    if (!settings.debug) return openQuietly(transport, settings, established)
    return Effect.flatMap(LogLevel.isEnabled("Debug"), (isShown) =>
      isShown ? openLogged(transport, settings, established) : openQuietly(transport, settings, established))
  })

const openQuietly = (
  transport: Transport,
  settings: Settings,
  established: Established
): Effect.Effect<ConnectionImpl> =>
  Effect.sync(() => {
    const connection = new ConnectionImpl(transport, settings, established)
    connection.start()
    return connection
  })

const openWrapped = (transport: Transport, { wrap, ...settings }: Settings, established: Established) =>
  Effect.suspend(() =>
    open(wrap?.(transport, established.handshake) ?? transport, { ...settings, wrap: undefined }, established)
  ).pipe(
    Effect.onError(() => Effect.sync(() => transport.destroy()))
  )

const openLogged = Effect.fnUntraced(function*(transport: Transport, settings: Settings, established: Established) {
  const { extensions, request, subprotocol } = established.handshake
  const log = DebugLog.make(yield* Effect.context<never>(), {
    role: settings.maskKey === undefined ? "server" : "client",
    peer: DebugLog.formatAddress(transport.peerAddress),
    path: DebugLog.pathOf(request.url)
  })
  log("WebSocket connection opened", {
    subprotocol,
    extensions: extensions.length === 0 ? undefined : formatExtensions(extensions)
  })
  const connection = new ConnectionImpl(DebugLog.logTransport(transport, log), settings, established)
  settings.runFork(Effect.map(connection.closed, (event) => {
    log("WebSocket connection closed", { ...event, failure: connection.failure?._tag })
  }))
  connection.start()
  return connection
})

// 1000: the work is done. 1001: this side goes away. 1011: something unexpected prevents going on (section 7.4.1).
const closeCodeOf = (exit: Exit.Exit<unknown, unknown>): number => {
  if (Exit.isSuccess(exit)) return 1000
  return Cause.hasInterruptsOnly(exit.cause) ? 1001 : 1011
}
