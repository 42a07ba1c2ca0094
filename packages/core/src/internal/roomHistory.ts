/**
 * The messages that a room keeps in memory.
 */
import * as Duration from "effect/Duration"
import type { Message } from "../Message.ts"
import type { History, Position } from "../Room.ts"
import type { Kept } from "../RoomBroker.ts"

interface Entry {
  readonly message: Message
  readonly at: number
}

/**
 * The latest messages, by their offsets.
 */
export class RoomHistory {
  private readonly epoch: string
  private readonly size: number
  private readonly age: number
  private readonly entries = new Map<number, Entry>()
  // The offsets of the oldest message that is kept, and of the latest: the first message has offset 1.
  private first = 1
  private last = 0
  private touchedAt = 0

  constructor(epoch: string, { age, messages }: History) {
    this.epoch = epoch
    this.size = messages
    this.age = Duration.toMillis(age)
  }

  get position(): Position {
    return { epoch: this.epoch, offset: this.last }
  }

  /** Keeps a message; the oldest makes room for it. */
  append(message: Message, now: number): Position {
    this.touch(now)
    this.last++
    this.entries.set(this.last, { message: typeof message === "string" ? message : message.slice(), at: now })
    if (this.entries.size > this.size) this.dropFirst()
    return this.position
  }

  /** What is kept after a position; `undefined` if that is not all there was. */
  since(from: Position | "oldest", now: number): Kept | undefined {
    this.prune(now)
    if (from !== "oldest") {
      if (from.epoch !== this.epoch || from.offset > this.last || from.offset + 1 < this.first) return undefined
    }
    const messages: Array<Kept["messages"][number]> = []
    for (let offset = from === "oldest" ? this.first : from.offset + 1; offset <= this.last; offset++) {
      messages.push({ message: this.entries.get(offset)!.message, position: { epoch: this.epoch, offset } })
    }
    return { messages, position: this.position, hasMore: false }
  }

  /** Drops what is too old. */
  prune(now: number): void {
    while (this.first <= this.last && this.entries.get(this.first)!.at + this.age <= now) this.dropFirst()
  }

  /** Notes that the room is used: its epoch goes on for as long as messages are kept. */
  touch(now: number): void {
    this.touchedAt = now
  }

  isOver(now: number): boolean {
    return this.touchedAt + this.age <= now
  }

  private dropFirst(): void {
    this.entries.delete(this.first)
    this.first++
  }
}
