/**
 * What arrives, over one connection after the other.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Pull from "effect/Pull"
import type { Connection } from "../Connection.ts"
import type { Message } from "../Message.ts"
import { ReceiveQueue } from "../ReceiveQueue.ts"
import type { ConnectionError, ReconnectError } from "../WebSocketError.ts"

type End = Effect.Effect<never, ReconnectError | Cause.Done>

/**
 * Consumers pull straight from the current connection, so their demand is its demand. Only what ended connections left over
 * is held here.
 */
export class Inbox {
  private readonly maxBytes: number
  private readonly held = new ReceiveQueue({ onEmpty: () => {} })
  private source: Connection | undefined
  private end: End | undefined
  private readonly changed = Latch.makeUnsafe(false)
  private readonly hasRoom = Latch.makeUnsafe(true)

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes
  }

  get pull(): Pull.Pull<NonEmptyReadonlyArray<Message>, ReconnectError> {
    return this.take((held) => held.takeAllUnsafe(), (source) => source.pull)
  }

  get receive(): Pull.Pull<Message, ReconnectError> {
    return this.take((held) => held.takeOneUnsafe(), (source) => source.receive)
  }

  /** Waits while so much is held that no other connection should add to it. */
  get room(): Effect.Effect<void> {
    return this.hasRoom.await
  }

  /** From now on, messages come from a connection. */
  attach(connection: Connection): void {
    this.source = connection
    this.changed.openUnsafe()
  }

  /** Takes what a closed connection left over, and tells why its messages failed, if they did. */
  takeOver(connection: Connection): Effect.Effect<ConnectionError | undefined> {
    return Effect.suspend(() => {
      // Consumers wait meanwhile, or they could overtake what is taken here.
      this.source = undefined
      const next: Effect.Effect<ConnectionError | undefined> = Pull.matchEffect(connection.pull, {
        onSuccess: (batch) => {
          this.held.offer([...batch])
          return next
        },
        onFailure: (cause) => Effect.succeed(Option.getOrUndefined(Cause.findErrorOption(cause))),
        onDone: () => Effect.undefined
      })
      return Effect.tap(next, () => Effect.sync(() => this.update()))
    })
  }

  /** Ends behind what is held. */
  close(end: End): void {
    this.end = end
    this.source = undefined
    this.update()
  }

  private take<A>(
    own: (held: ReceiveQueue) => A,
    from: (source: Connection) => Pull.Pull<A, ConnectionError>
  ): Pull.Pull<A, ReconnectError> {
    const next: Pull.Pull<A, ReconnectError> = Effect.suspend(() => {
      if (this.held.bytes > 0) {
        const taken = own(this.held)
        this.update()
        return Effect.succeed(taken)
      }
      const { source } = this
      if (source !== undefined) {
        return Effect.catch(from(source), () => {
          if (this.source === source) this.source = undefined
          return next
        })
      }
      if (this.end !== undefined) return this.end
      this.changed.closeUnsafe()
      return Effect.andThen(this.changed.await, next)
    })
    return next
  }

  private update(): void {
    this.changed.openUnsafe()
    if (this.held.bytes < this.maxBytes) this.hasRoom.openUnsafe()
    else this.hasRoom.closeUnsafe()
  }
}
