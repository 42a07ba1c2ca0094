/**
 * The bounded inbound side of a connection: messages that arrived and were not yet pulled.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Pull from "effect/Pull"
import type { Message } from "./Message.ts"
import type { ConnectionError } from "./WebSocketError.ts"

type End = Effect.Effect<never, ConnectionError | Cause.Done>

// A buffered message costs more than its payload. Without this, empty messages would fill the memory for free.
const messageOverhead = 32

const weight = (message: Message): number => message.length + messageOverhead

// A class, not a literal: once hundreds have waited long, V8 makes a literal's objects among the old ones from then on, where
// each keeps what it knows of alive until all memory is searched.
class Consumer<A> {
  readonly take: (queue: ReceiveQueue) => A
  readonly resume: (effect: Pull.Pull<A, ConnectionError>) => void

  constructor(take: Consumer<A>["take"], resume: Consumer<A>["resume"]) {
    this.take = take
    this.resume = resume
  }
}

const takeAll = (queue: ReceiveQueue) => queue.takeAllUnsafe()
const takeOne = (queue: ReceiveQueue) => queue.takeOneUnsafe()

// Stands for an array of its own as long as that would be empty.
const none: Array<Message> = []

const nobody = { onEmpty: () => {} }

/**
 * Hands over what arrived: a batch as a whole, synchronously, to the consumer that waits for it.
 *
 * @category models
 * @since 0.1.0
 */
export class ReceiveQueue {
  private owner: { readonly onEmpty: () => void }
  private messages: Array<Message> = none
  private held = 0
  private isAccepting = true
  private end: End | undefined
  // Nearly always there is only one, that waits again and again: an array would be larger than all the rest.
  private consumer: Consumer<unknown> | undefined
  private others: Array<Consumer<unknown>> | undefined
  // Made once, as the one consumer needs them again and again.
  private pullAll: Pull.Pull<NonEmptyReadonlyArray<Message>, ConnectionError> | undefined
  private pullOne: Pull.Pull<Message, ConnectionError> | undefined

  /** `onEmpty` is called whenever the last buffered message was taken. */
  constructor(owner: { readonly onEmpty: () => void }) {
    this.owner = owner
  }

  /** What is buffered, in bytes (a character counts as one), with an overhead for each message. */
  get bytes(): number {
    return this.held
  }

  /** Takes over an array of messages. */
  offer(messages: Array<Message>): void {
    if (!this.isAccepting) return
    let held = this.held
    for (const message of messages) held += weight(message)
    this.held = held
    if (this.messages.length === 0) this.messages = messages
    else for (const message of messages) this.messages.push(message)
    this.serve()
  }

  /** Ends the queue behind what is buffered. */
  close(end: End): void {
    this.stop()
    this.end ??= end
    // Whoever is left with a stream of it is not left with the whole connection.
    this.owner = nobody
    this.serve()
  }

  /** Drops every message from now on. */
  stop(): void {
    this.isAccepting = false
  }

  /** Drops what is buffered too. */
  discard(): void {
    this.stop()
    this.clear()
  }

  /** All that is buffered, as one batch; waits for some if there is none. */
  get pull(): Pull.Pull<NonEmptyReadonlyArray<Message>, ConnectionError> {
    return this.pullAll ??= this.consume(takeAll)
  }

  /** One message; what came with it stays for the next consumer. */
  get receive(): Pull.Pull<Message, ConnectionError> {
    return this.pullOne ??= this.consume(takeOne)
  }

  /** Takes the buffered messages; there is one at least. */
  takeAllUnsafe(): NonEmptyReadonlyArray<Message> {
    const batch = this.messages
    this.clear()
    return batch as unknown as NonEmptyReadonlyArray<Message>
  }

  /** Takes the first buffered message; there is one at least. */
  takeOneUnsafe(): Message {
    const message = this.messages.shift()!
    this.held -= weight(message)
    return message
  }

  private consume<A>(take: (queue: ReceiveQueue) => A): Pull.Pull<A, ConnectionError> {
    // Who is first stays so until served, or until it leaves.
    const leaveFirst = Effect.sync(() => this.leave(this.consumer))
    return Effect.callback((resume) =>
      // Whoever waits comes first: a message goes to one consumer only.
      this.consumer === undefined && this.isReady
        ? resume(this.next(take))
        : this.wait(new Consumer<unknown>(take, resume as Consumer<unknown>["resume"]), leaveFirst)
    )
  }

  private wait(consumer: Consumer<unknown>, leaveFirst: Effect.Effect<void>): Effect.Effect<void> {
    if (this.consumer === undefined) {
      this.consumer = consumer
      return leaveFirst
    }
    ;(this.others ??= []).push(consumer)
    return Effect.sync(() => this.leave(consumer))
  }

  private leave(consumer: Consumer<unknown> | undefined): void {
    if (this.consumer === consumer) this.consumer = this.others?.shift()
    else this.others = this.others?.filter((other) => other !== consumer)
  }

  private next<A>(take: (queue: ReceiveQueue) => A): Pull.Pull<A, ConnectionError> {
    if (this.messages.length === 0) return this.end!
    const taken = take(this)
    if (this.messages.length === 0) this.owner.onEmpty()
    return Effect.succeed(taken)
  }

  private clear(): void {
    this.messages = none
    this.held = 0
  }

  private get isReady(): boolean {
    return this.messages.length > 0 || this.end !== undefined
  }

  private serve(): void {
    while (this.consumer !== undefined && this.isReady) {
      const { resume, take } = this.consumer
      this.consumer = this.others?.shift()
      resume(this.next(take))
    }
  }
}
