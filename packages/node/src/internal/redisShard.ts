/**
 * What a process hears on a channel: each event once, in order, and whether something is missing.
 */
import type { History, Position } from "@effect-ws/core/Room"
import type { BrokerEvent, MemberRecord } from "@effect-ws/core/RoomBroker"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { type Arrival, parse } from "./redisEvents.ts"

/** The state of a room, as Redis knew it when it had published `seq` events on the channel of the room's shard. */
export interface RoomState {
  readonly epoch: string
  readonly seq: number
  readonly members: ReadonlyArray<MemberRecord>
  readonly position: Position | undefined
}

/** A message that a room has kept. */
export type KeptEvent = Extract<BrokerEvent, { readonly _tag: "Published" }> & { readonly position: Position }

/** A channel that is listened to. */
export class Shard {
  readonly index: number
  /** Done with the first event: from then on, it is known if one is missing. */
  readonly listening = Deferred.makeUnsafe<void>()
  private readonly attachments = new Map<string, Set<Attachment>>()
  private epoch: string | undefined
  private seq = 0

  constructor(index: number) {
    this.index = index
  }

  add(attachment: Attachment): void {
    const same = this.attachments.get(attachment.room)
    if (same === undefined) this.attachments.set(attachment.room, new Set([attachment]))
    else same.add(attachment)
  }

  remove(attachment: Attachment): void {
    const same = this.attachments.get(attachment.room)
    if (same?.delete(attachment) === true && same.size === 0) this.attachments.delete(attachment.room)
  }

  /** Notes that a message has been published, which is on its way. */
  expect(room: string, position: Position): void {
    this.attachments.get(room)?.forEach((attachment) => attachment.expect(position))
  }

  /** Takes in what came on the channel. */
  readonly receive = (bytes: Buffer): void => {
    const arrival = parse(bytes)
    if (arrival === undefined) return
    const { epoch, room, seq } = arrival
    const isNext = this.epoch === undefined || (epoch === this.epoch && seq === this.seq + 1)
    this.epoch = epoch
    this.seq = seq
    if (!isNext) { for (const same of this.attachments.values()) for (const each of same) each.lost() }
    Deferred.doneUnsafe(this.listening, Effect.void)
    if (room !== undefined) this.attachments.get(room)?.forEach((attachment) => attachment.take(arrival))
  }
}

/**
 * A room that is listened to.
 *
 * While its state is being asked for, what happens is held: part of it may be in the answer.
 */
export class Attachment {
  readonly room: string
  readonly history: History | undefined

  /** How far each epoch is known to have gone, since the room was last synchronized. */
  private readonly seen = new Map<string, number>()

  private readonly deliver: (event: BrokerEvent) => void
  private readonly onLost: () => void
  private known: RoomState | undefined
  private position: Position | undefined
  /** How far it got in each epoch. */
  private readonly reached = new Map<string, number>()
  private held: Array<Arrival> | undefined = []
  private losses = 0

  /** A room that is about to be synchronized; `onLost` is called when that has to be done again. */
  constructor(
    room: string,
    history: History | undefined,
    deliver: (event: BrokerEvent) => void,
    onLost: () => void
  ) {
    this.room = room
    this.history = history
    this.deliver = deliver
    this.onLost = onLost
  }

  take(arrival: Arrival): void {
    if (this.held !== undefined) this.held.push(arrival)
    else if (!this.isNew(arrival)) return
    else if (arrival.event === undefined) this.lost()
    else this.receive(arrival.event)
  }

  /** Notes that there is such a position. */
  expect({ epoch, offset }: Position): void {
    this.seen.set(epoch, Math.max(offset, this.seen.get(epoch) ?? 0))
  }

  /** Something is missing. */
  lost(): void {
    this.losses++
    if (this.held !== undefined) return
    this.held = []
    this.onLost()
  }

  /**
   * Goes on from the state of the room, which is asked for with the positions that are known. If that is not the beginning,
   * what was missed comes before, as far as the room has kept it.
   */
  synchronize<E>(
    state: (seen: ReadonlyArray<Position>) => Effect.Effect<RoomState, E>,
    since: ((position: Position) => Effect.Effect<ReadonlyArray<KeptEvent> | undefined, E>) | undefined
  ): Effect.Effect<void, E> {
    return Effect.gen({ self: this }, function*() {
      while (true) {
        const { losses } = this
        // What came before is in the answer.
        this.held = []
        const seen = Array.from(this.seen, ([epoch, offset]) => ({ epoch, offset }))
        const known = yield* state(seen)
        const missed = since && this.position && (yield* since(this.position))
        if (losses !== this.losses) continue
        const { held } = this
        this.held = undefined
        this.known = known
        for (const { epoch, offset } of seen) if (this.seen.get(epoch) === offset) this.seen.delete(epoch)
        if (known.position !== undefined) this.expect(known.position)
        if (missed === undefined) {
          if (since !== undefined) this.deliver({ _tag: "Gap" })
          this.reach(known.position)
        } else {
          for (const event of missed) this.receive(event)
        }
        this.deliver({ _tag: "Snapshot", members: known.members, position: this.position })
        for (const arrival of held) this.take(arrival)
        return
      }
    })
  }

  // The answers of Redis may be ahead of what comes on the channel.
  private isNew({ epoch, event, seq }: Arrival): boolean {
    if (event?._tag !== "Published") return epoch !== this.known?.epoch || seq > this.known.seq
    return event.position === undefined || event.position.offset > (this.reached.get(event.position.epoch) ?? -1)
  }

  private receive(event: BrokerEvent): void {
    if (event._tag === "Published" && event.position !== undefined) {
      this.reach(event.position)
      this.expect(event.position)
    }
    this.deliver(event)
  }

  private reach(position: Position | undefined): void {
    this.position = position
    if (position !== undefined) this.reached.set(position.epoch, position.offset)
  }
}
