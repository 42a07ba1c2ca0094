/**
 * The bounded inbound side of a connection: messages that arrived and were not yet pulled.
 *
 * @since 0.1.0
 */
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import type * as Pull from "effect/Pull"
import type { Message } from "./Message.ts"
import type { ConnectionError } from "./WebSocketError.ts"

type End = Effect.Effect<never, ConnectionError | Cause.Done>

// A buffered message costs more than its payload. Without this, empty messages would fill the memory for free.
const messageOverhead = 32

const weight = (message: Message): number => message.length + messageOverhead

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
  private consumer: Consumer | undefined
  private others: Array<Consumer> | undefined

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
    return new Taking(this, takeAll)
  }

  /** One message; what came with it stays for the next consumer. */
  get receive(): Pull.Pull<Message, ConnectionError> {
    return new Taking(this, takeOne)
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

  /** What `pull` and `receive` do when they are run. */
  takeOrWait<A>(take: Take<A>): Pull.Pull<A, ConnectionError> {
    if (this.isServable) return this.next(take)
    return Effect.callback((resume) => {
      // Another fiber may have had its turn in between.
      if (this.isServable) return resume(this.next(take))
      const consumer = new Consumer(this, take, resume as Consumer["resume"])
      if (this.consumer === undefined) this.consumer = consumer
      else (this.others ??= []).push(consumer)
      return consumer
    })
  }

  /** Forgets one that waits no longer. */
  leave(consumer: Consumer): void {
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

  // Whoever waits comes first: a message goes to one consumer only.
  private get isServable(): boolean {
    return this.consumer === undefined && this.isReady
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

type Take<A> = (queue: ReceiveQueue) => A

const takeAll: Take<NonEmptyReadonlyArray<Message>> = (queue) => queue.takeAllUnsafe()
const takeOne: Take<Message> = (queue) => queue.takeOneUnsafe()

// Most connections wait most of the time. Functions would do what these classes do, but each of them, and what it knows of, is
// an object too. And once hundreds of a literal's objects have waited long, V8 makes them among the old ones from then on, where
// each keeps what it knows of alive until all memory is searched.

// What a consumer runs.
class Taking<A> extends Effectable.Class<A, ConnectionError | Cause.Done> {
  private readonly queue: ReceiveQueue
  private readonly take: Take<A>

  constructor(queue: ReceiveQueue, take: Take<A>) {
    super()
    this.queue = queue
    this.take = take
  }

  asEffect(): Pull.Pull<A, ConnectionError> {
    return this.queue.takeOrWait(this.take)
  }
}

// One that waits. As an effect, it leaves.
class Consumer extends Effectable.Class<void> {
  private readonly queue: ReceiveQueue
  readonly take: Take<unknown>
  readonly resume: (effect: Pull.Pull<unknown, ConnectionError>) => void

  constructor(queue: ReceiveQueue, take: Take<unknown>, resume: Consumer["resume"]) {
    super()
    this.queue = queue
    this.take = take
    this.resume = resume
  }

  asEffect(): Effect.Effect<void> {
    this.queue.leave(this)
    return Effect.void
  }
}
