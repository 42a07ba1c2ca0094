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

/**
 * Hands over what arrived: a batch as a whole, synchronously, to the consumer that waits for it.
 *
 * @category models
 * @since 0.1.0
 */
export class ReceiveQueue {
  private readonly owner: { readonly onEmpty: () => void }
  private messages: Array<Message> = []
  private held = 0
  private isAccepting = true
  private end: End | undefined
  private readonly consumers: Array<() => void> = []

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
    for (const message of messages) this.held += weight(message)
    if (this.messages.length === 0) this.messages = messages
    else for (const message of messages) this.messages.push(message)
    this.serve()
  }

  /** Ends the queue behind what is buffered. */
  close(end: End): void {
    this.stop()
    this.end ??= end
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
    return this.consume(() => {
      const batch = this.messages as unknown as NonEmptyReadonlyArray<Message>
      this.clear()
      return batch
    })
  }

  /** One message; what came with it stays for the next consumer. */
  get receive(): Pull.Pull<Message, ConnectionError> {
    return this.consume(() => {
      const message = this.messages.shift()!
      this.held -= weight(message)
      return message
    })
  }

  private consume<A>(take: () => A): Pull.Pull<A, ConnectionError> {
    return Effect.callback((resume) => {
      const consumer = () => resume(this.next(take))
      // Whoever waits comes first: a message goes to one consumer only.
      if (this.consumers.length === 0 && this.isReady) return consumer()
      this.consumers.push(consumer)
      return Effect.sync(() => {
        const at = this.consumers.indexOf(consumer)
        if (at >= 0) this.consumers.splice(at, 1)
      })
    })
  }

  private next<A>(take: () => A): Pull.Pull<A, ConnectionError> {
    if (this.messages.length === 0) return this.end!
    const taken = take()
    if (this.messages.length === 0) this.owner.onEmpty()
    return Effect.succeed(taken)
  }

  private clear(): void {
    this.messages = []
    this.held = 0
  }

  private get isReady(): boolean {
    return this.messages.length > 0 || this.end !== undefined
  }

  private serve(): void {
    while (this.consumers.length > 0 && this.isReady) this.consumers.shift()!()
  }
}
