/**
 * Pings that wait for their pong.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { SendError } from "../WebSocketError.ts"
import { notOpen } from "./turns.ts"

interface Waiting {
  readonly id: number
  readonly resume: (effect: Effect.Effect<void, SendError>) => void
}

const none: ReadonlyArray<Waiting> = []

/** The payload of a ping that neither waits for its pong nor follows one that does; its pong answers nothing. */
export const unnumbered = new Uint8Array(4)

/**
 * Numbers pings, and matches pongs with them by payload.
 *
 * **Details**
 *
 * A pong also answers every ping before its own: a peer may answer only the latest (RFC 6455, section 5.5.3).
 */
export class Pings {
  private last = 0
  private lastAnswered = 0
  private waiting: ReadonlyArray<Waiting> = none
  private hasEnded = false

  /** The payload of the next ping: its number. */
  next(): Uint8Array {
    this.last++
    const payload = new Uint8Array(4)
    new DataView(payload.buffer).setUint32(0, this.last)
    return payload
  }

  /** Waits for the pong with this payload. */
  answered(payload: Uint8Array): Effect.Effect<void, SendError> {
    return Effect.callback((resume) => {
      const entry: Waiting = { id: numberOf(payload), resume }
      if (entry.id <= this.lastAnswered) return resume(Effect.void)
      // The connection may end between the sending of a ping and this.
      if (this.hasEnded) return resume(Effect.fail(notOpen))
      this.waiting = [...this.waiting, entry]
      return Effect.sync(() => {
        this.waiting = this.waiting.filter((other) => other !== entry)
      })
    })
  }

  /** Takes the payload of a pong. */
  answer(payload: Uint8Array): void {
    if (payload.length !== 4) return
    const id = numberOf(payload)
    if (id > this.last || id <= this.lastAnswered) return
    this.lastAnswered = id
    const answered = this.waiting.filter((entry) => entry.id <= id)
    this.waiting = this.waiting.filter((entry) => entry.id > id)
    for (const entry of answered) entry.resume(Effect.void)
  }

  /** Fails what still waits, or comes to wait: the connection has ended. */
  end(): void {
    this.hasEnded = true
    const { waiting } = this
    this.waiting = none
    for (const entry of waiting) entry.resume(Effect.fail(notOpen))
  }
}

const numberOf = (payload: Uint8Array): number => new DataView(payload.buffer, payload.byteOffset, 4).getUint32(0)
