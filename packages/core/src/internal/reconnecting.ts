/**
 * One connection after the other, until there is an end for good.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Connection } from "../Connection.ts"
import type { Message, Prepared } from "../Message.ts"
import * as Utf8 from "../protocol/Utf8.ts"
import type { Decision, Ending, ReconnectingConnection, State } from "../Reconnect.ts"
import {
  type AttemptFailed,
  type CloseError,
  type ConnectError,
  ConnectionEnded,
  type ConnectionError,
  ReconnectError
} from "../WebSocketError.ts"
import { delayAfter, type Delays } from "./delay.ts"
import { Inbox } from "./inbox.ts"
import { invalidClose } from "./invalidClose.ts"
import { Outbox, type OutboxOptions } from "./outbox.ts"

const TypeId: ReconnectingConnection["~effect-ws/core/Reconnect"] = "~effect-ws/core/Reconnect"

export interface ReconnectingOptions<R> extends OutboxOptions {
  /** Makes a connection, whose handshake is done. */
  readonly connect: Effect.Effect<Connection, ConnectError | AttemptFailed, Scope.Scope | R>
  /** Runs over each connection before it is used. */
  readonly onConnect: (connection: Connection) => Effect.Effect<void, AttemptFailed, Scope.Scope | R>
  readonly classify: (ending: Ending) => Decision
  /** The delays of one series of attempts, from the beginning. */
  readonly delays: Effect.Effect<Delays<R>, never, R>
  readonly stableAfter: Duration.Duration
  readonly drainSpread: Duration.Duration
  readonly receiveBufferBytes: number
  readonly closeTimeout: Duration.Duration
}

// Why the user ends it: by a close, or by the exit of the scope.
type Closing =
  | { readonly _tag: "Close"; readonly code: number; readonly reason: string }
  | { readonly _tag: "Release"; readonly exit: Exit.Exit<unknown, unknown> }

// How far the current attempt has come.
type Phase =
  | { readonly _tag: "Down" }
  | { readonly _tag: "Preparing"; readonly connection: Connection }
  | { readonly _tag: "Open"; readonly connection: Connection }

// What became of one attempt, and for how long its connection was open.
interface Lifetime {
  readonly ending: Ending
  readonly open: Option.Option<Duration.Duration>
}

/**
 * The state machine of a connection that outlives its sockets: one fiber that connects, waits for the end, and connects
 * again. Whoever ends it for good says why in `closing` and interrupts that fiber, wherever it is.
 */
export class Reconnecting<R> implements ReconnectingConnection {
  readonly [TypeId] = TypeId
  private readonly options: ReconnectingOptions<R>
  private readonly inbox: Inbox
  private readonly outbox: Outbox
  private readonly observers = new Set<Queue.Queue<State, Cause.Done>>()
  private readonly woken = Latch.makeUnsafe(false)
  private readonly ended = Deferred.makeUnsafe<void, ReconnectError>()
  private current: State = { _tag: "Connecting", attempt: 1 }
  private phase: Phase = { _tag: "Down" }
  private closing: Closing | undefined
  private fiber: Fiber.Fiber<unknown> | undefined

  constructor(options: ReconnectingOptions<R>) {
    this.options = options
    this.inbox = new Inbox(options.receiveBufferBytes)
    this.outbox = new Outbox(options)
  }

  get messages() {
    return Stream.fromPull(Effect.succeed(this.pull))
  }
  get pull() {
    return this.inbox.pull
  }
  get receive() {
    return this.inbox.receive
  }
  get send() {
    return (message: Message | Prepared) => this.outbox.send(message)
  }
  get sendAll() {
    return (messages: Iterable<Message | Prepared>) => this.outbox.sendAll(messages)
  }
  get queuedMessages() {
    return this.outbox.queuedMessages
  }
  get queuedBytes() {
    return this.outbox.queuedBytes
  }

  get close() {
    return (code = 1000, reason = ""): Effect.Effect<void, CloseError> =>
      Effect.suspend(() => {
        const invalid = invalidClose(code, reason, Utf8.portable)
        return invalid === undefined ? this.end({ _tag: "Close", code, reason }) : Effect.fail(invalid)
      })
  }

  /** Closes as the scope's exit says, and waits for the end. */
  release(exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> {
    return this.end({ _tag: "Release", exit })
  }

  get closed(): Effect.Effect<void, ReconnectError> {
    return Deferred.await(this.ended)
  }
  get state(): Effect.Effect<State> {
    return Effect.sync(() => this.current)
  }
  get changes(): Stream.Stream<State> {
    // Looks at the state and registers in one step, or a change could come in between.
    return Stream.callback<State>((queue) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          Queue.offerUnsafe(queue, this.current)
          if (this.current._tag === "Closed") Queue.endUnsafe(queue)
          else this.observers.add(queue)
        }),
        () => Effect.sync(() => this.observers.delete(queue))
      ), { bufferSize: 16, strategy: "sliding" })
  }
  get retryNow(): Effect.Effect<void> {
    return Effect.asVoid(this.woken.open)
  }

  /** Begins to connect. */
  get start(): Effect.Effect<void, never, R> {
    return Effect.map(
      Effect.forkDetach(Effect.onExit(this.run, (exit) => this.finish(exit)), { startImmediately: true }),
      (fiber) => {
        this.fiber = fiber
      }
    )
  }

  private end(closing: Closing): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.closing === undefined) {
        this.closing = closing
        this.outbox.seal()
        this.fiber!.interruptUnsafe()
      }
      return Effect.asVoid(Effect.exit(this.closed))
    })
  }

  // Connects again and again, and tells why it gave up, if it did.
  private get run(): Effect.Effect<ReconnectError | undefined, never, R> {
    const { classify, delays, drainSpread, stableAfter } = this.options
    return Effect.gen({ self: this }, function*() {
      let series = yield* delays
      let attempt = 1
      while (true) {
        this.become({ _tag: "Connecting", attempt })
        const { ending, open } = yield* this.live
        const decision = classify(ending)
        if (decision === "done") return undefined
        if (decision === "fail") return new ReconnectError({ reason: ending, exhausted: false })
        if (Option.isSome(open) && Duration.isGreaterThanOrEqualTo(open.value, stableAfter)) series = yield* delays
        const delay = yield* delayAfter(ending, series, drainSpread)
        if (delay === undefined) return new ReconnectError({ reason: ending, exhausted: true })
        attempt = Option.isSome(open) ? 1 : attempt + 1
        yield* this.wait(attempt, delay, ending)
      }
    })
  }

  // One attempt and the connection it makes, until that is gone.
  private get live(): Effect.Effect<Lifetime, never, R> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.gen({ self: this }, function*() {
        const scope = yield* Scope.make()
        const exit = yield* Effect.exit(Scope.provide(restore(this.carry), scope))
        yield* this.leave
        yield* Scope.close(scope, this.closing?._tag === "Release" ? this.closing.exit : exitOf(exit))
        return yield* exit
      })
    )
  }

  private get carry(): Effect.Effect<Lifetime, never, Scope.Scope | R> {
    const { connect, onConnect } = this.options
    return Effect.gen({ self: this }, function*() {
      const connected = yield* Effect.result(connect)
      if (connected._tag === "Failure") return { ending: connected.failure, open: Option.none() }
      const connection = connected.success
      this.phase = { _tag: "Preparing", connection }
      const prepared = yield* Effect.raceFirst(Effect.result(onConnect(connection)), connection.closed)
      if (!("_tag" in prepared) || prepared._tag === "Failure") {
        // Why the server ended it tells more than how `onConnect` failed on that.
        const ending = "_tag" in prepared && (yield* connection.state) === "Open"
          ? prepared.failure
          : yield* endingOf(connection, failureOf(connection))
        return { ending, open: Option.none() }
      }
      const clock = yield* Clock.Clock
      const since = clock.monotonicTimeNanosUnsafe()
      this.phase = { _tag: "Open", connection }
      this.become({ _tag: "Open", connection })
      this.inbox.attach(connection)
      yield* Effect.raceFirst(this.outbox.feed(connection), connection.closed)
      const ending = yield* endingOf(connection, this.inbox.takeOver(connection))
      return { ending, open: Option.some(Duration.nanos(clock.monotonicTimeNanosUnsafe() - since)) }
    })
  }

  // Takes leave of the connection: if this side ends it for good, with all that was accepted, and the code it was given.
  private get leave(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const { closing, phase } = this
      this.phase = { _tag: "Down" }
      if (closing === undefined || phase._tag === "Down") return
      const { connection } = phase
      if (phase._tag === "Open") {
        const { closeTimeout } = this.options
        yield* Effect.ignore(Effect.timeoutOption(connection.sendAll(this.outbox.takeAll()), closeTimeout))
      }
      if (closing._tag === "Release") return
      yield* Effect.orDie(connection.close(closing.code, closing.reason))
      if (phase._tag === "Open") yield* this.inbox.takeOver(connection)
    })
  }

  private wait(attempt: number, delay: Duration.Duration, ending: Ending): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const now = yield* Clock.currentTimeMillis
      this.woken.closeUnsafe()
      this.become({ _tag: "Waiting", attempt, until: now + Duration.toMillis(delay), ending })
      yield* Effect.timeoutOption(this.woken.await, delay)
      yield* this.inbox.room
    })
  }

  private become(state: State): void {
    this.current = state
    for (const observer of this.observers) {
      Queue.offerUnsafe(observer, state)
      if (state._tag === "Closed") Queue.endUnsafe(observer)
    }
  }

  private finish(exit: Exit.Exit<ReconnectError | undefined>): Effect.Effect<void> {
    return Effect.suspend(() => {
      const isClosed = this.closing !== undefined && Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
      const error = Exit.isSuccess(exit) ? exit.value : undefined
      const end: Exit.Exit<void, ReconnectError> = error !== undefined
        ? Exit.fail(error)
        : isClosed
        ? Exit.void
        : Exit.asVoid(exit)
      this.outbox.seal()
      this.outbox.takeAll()
      // Whoever is resumed by the rest finds it closed.
      this.become({ _tag: "Closed", error })
      this.inbox.close(Effect.andThen(end, Cause.done()))
      Deferred.doneUnsafe(this.ended, end)
      return Exit.isFailure(exit) && !isClosed
        ? Effect.logError("A reconnecting connection died", exit.cause)
        : Effect.void
    })
  }
}

const endingOf = (connection: Connection, failure: Effect.Effect<ConnectionError | undefined>) =>
  Effect.gen(function*() {
    const closeEvent = yield* connection.closed
    return new ConnectionEnded({ closeEvent, error: yield* failure })
  })

// What nobody is going to read any more ends with the reason.
const failureOf = (connection: Connection): Effect.Effect<ConnectionError | undefined> =>
  Effect.match(Stream.runDrain(connection.messages), { onFailure: (error) => error, onSuccess: () => undefined })

// Only a failed `onConnect` leaves a connection that is open.
const exitOf = (exit: Exit.Exit<Lifetime>): Exit.Exit<void, Ending> =>
  Exit.isSuccess(exit) && exit.value.ending._tag === "AttemptFailed" ? Exit.fail(exit.value.ending) : Exit.asVoid(exit)
