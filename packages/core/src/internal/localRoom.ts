/**
 * A room as one process sees it: who of its connections is in, and what they are told.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type { Connection } from "../Connection.ts"
import * as Message from "../Message.ts"
import type { Gap, Member, Notice, Position, Presence, Published, Room } from "../Room.ts"
import type { BrokerEvent, MemberRecord, Publication } from "../RoomBroker.ts"

/**
 * A connection in the room.
 *
 * A member is "Entering" until its own entry has come back from the broker, "CatchingUp" until it has the messages that it
 * missed, and "Live" from then on.
 */
export interface LocalMember {
  readonly id: string
  readonly connection: Connection
  readonly catchesUp: boolean
  readonly entered: Deferred.Deferred<void>
  position: Position | undefined
  /** How far, in each epoch, it has what the broker gave it of the past, which may be ahead of what has arrived. */
  has: Map<string, number> | undefined
  state: "Entering" | "CatchingUp" | "Live"
  /** What it is still to be told: its queue was full of messages of the past. */
  readonly untold: Array<Message.Prepared>
}

/** A message as it was sent to members, and how many had arrived with it. */
interface Recent {
  readonly arrival: number
  readonly position: Position
  readonly prepared: Message.Prepared
}

// What may wait for a consumer of a stream, or to be told to a member that catches up. Beyond it, for the consumer all is
// dropped and it is told to begin anew; for the member, the room's policy decides.
const maxWaiting = 1024
// The latest messages that members who catch up need not ask the broker for: so many, and so long together.
const maxRecent = 1024
const maxRecentLength = 1024 * 1024

export class LocalRoom<Metadata> {
  readonly members = new Map<Connection, LocalMember>()
  readonly present = new Map<string, Member<Metadata>>()
  readonly messageQueues = new Set<Queue.Queue<Published | Gap>>()
  readonly presenceQueues = new Set<Queue.Queue<Presence<Metadata>>>()
  readonly ready = Deferred.makeUnsafe<void>()

  private readonly room: Room<Metadata, never>
  private readonly onDefect: (defect: unknown) => void
  private readonly entering = new Map<string, LocalMember>()
  /** How many messages have arrived. */
  arrivals = 0
  private position: Position | undefined
  private readonly catchingUp = new Set<LocalMember>()
  private recent: Array<Recent> = []
  private recentLength = 0

  /** A room whose own functions may throw: that is told `onDefect`, and costs the message it is about. */
  constructor(room: Room<Metadata, never>, onDefect: (defect: unknown) => void) {
    this.room = room
    this.onDefect = onDefect
  }

  /** Takes in what happens. */
  receive(event: BrokerEvent): void {
    switch (event._tag) {
      case "Published":
        return this.published(event.publication, event.position)
      case "Entered":
        return this.entered(event.member)
      case "Left":
        return this.left(event.id)
      case "Snapshot":
        return this.replaced(event.members, event.position)
      case "Gap":
        this.tell(event)
        for (const queue of this.messageQueues) offer<Published | Gap>(queue, event, () => event)
    }
  }

  get snapshot(): Presence<Metadata> {
    return { _tag: "Snapshot", members: [...this.present.values()] }
  }

  /** Adds a member, who catches up from a position, or from where anything is kept. */
  add(id: string, connection: Connection, from: Position | "oldest" | undefined): LocalMember {
    const catchesUp = from !== undefined && this.room.history !== undefined
    const entered = Deferred.makeUnsafe<void>()
    const member: LocalMember = {
      id,
      connection,
      catchesUp,
      entered,
      position: undefined,
      has: catchesUp ? new Map(from === "oldest" ? [] : [[from.epoch, from.offset]]) : undefined,
      state: "Entering",
      untold: []
    }
    this.members.set(connection, member)
    this.entering.set(id, member)
    if (catchesUp) this.catchingUp.add(member)
    return member
  }

  remove(member: LocalMember): void {
    this.members.delete(member.connection)
    this.entering.delete(member.id)
    this.caughtUp(member)
    // Somebody else may have closed the scope, and it is not going to happen any more.
    Deferred.doneUnsafe(member.entered, Effect.interrupt)
  }

  /** What came after a position, which the broker gave when so many messages had arrived; if it is at hand. */
  recentSince(from: Position | undefined, arrivals: number): ReadonlyArray<Recent> | undefined {
    const isKnown = ({ arrival, position }: Recent) =>
      position.epoch === from?.epoch ? position.offset <= from.offset : arrival <= arrivals
    const recent = this.recent.filter((each) => !isKnown(each))
    const isComplete = recent.every(({ position }, i) =>
      position.epoch === from?.epoch && position.offset === from.offset + i + 1
    )
    return isComplete ? recent : undefined
  }

  /** Makes a member live that has all messages up to a position. */
  goLive(member: LocalMember, position: Position | undefined): void {
    if (position !== undefined) member.has?.set(position.epoch, position.offset)
    member.position = position
    member.state = "Live"
    this.caughtUp(member)
  }

  /** Tells a member what it is still to be told, as far as its queue has room. */
  catchUpOnNotices({ connection, untold }: LocalMember): ReturnType<Connection["sendUnsafe"]> {
    while (untold.length > 0) {
      const outcome = connection.sendUnsafe(untold[0]!, "suspend")
      if (outcome !== "Accepted") return outcome
      untold.shift()
    }
    return "Accepted"
  }

  /** A message as it is sent to members. */
  render(message: Message.Message, position: Position | undefined): Message.Message | undefined {
    const { stamp } = this.room
    return stamp === undefined || position === undefined ? message : this.attempt(() => stamp(message, position))
  }

  private published({ except, message, overflow }: Publication, position: Position | undefined): void {
    this.position = position
    const arrival = ++this.arrivals
    const rendered = this.render(message, position)
    if (rendered === undefined) return
    const prepared = Message.prepare(rendered)
    for (const member of this.members.values()) {
      if (member.state !== "Live" || member.id === except || hasAlready(member, position)) continue
      member.connection.sendUnsafe(prepared, overflow)
    }
    if (this.catchingUp.size > 0 && position !== undefined) {
      this.recent.push({ arrival, position, prepared })
      this.recentLength += rendered.length
      // The latest stays in any case: without one, there would seem to be nothing to catch up with.
      while (this.recent.length > maxRecent || (this.recentLength > maxRecentLength && this.recent.length > 1)) {
        this.recentLength -= this.recent.shift()!.prepared.message.length
      }
    }
    for (const queue of this.messageQueues) {
      offer<Published | Gap>(queue, { _tag: "Published", message, position }, () => ({ _tag: "Gap" }))
    }
  }

  private entered(record: MemberRecord): void {
    const { id } = record
    const member = this.decode(record)
    if (member !== undefined) {
      const _tag = this.present.has(id) ? "Updated" : "Joined"
      this.present.set(id, member)
      this.changed({ _tag, member })
    }
    this.admit(id)
  }

  private left(id: string): void {
    const member = this.present.get(id)
    if (member === undefined) return
    this.present.delete(id)
    this.changed({ _tag: "Left", member })
  }

  private replaced(members: ReadonlyArray<MemberRecord>, position: Position | undefined): void {
    this.position = position
    this.present.clear()
    for (const record of members) {
      const member = this.decode(record)
      if (member !== undefined) this.present.set(record.id, member)
    }
    this.changed(this.snapshot)
    if (this.entering.size > 0) { for (const { id } of members) this.admit(id) }
    Deferred.doneUnsafe(this.ready, Effect.void)
  }

  // Another version of the program may show what this one does not know.
  private decode({ id, metadata }: MemberRecord): Member<Metadata> | undefined {
    const decoded = this.attempt(() => this.room.metadata.decode(metadata))
    return decoded?._tag === "Some" ? { id, metadata: decoded.value } : undefined
  }

  // From here on, a member is told what happens; first, who is in.
  private admit(id: string): void {
    const member = this.entering.get(id)
    if (member === undefined) return
    this.entering.delete(id)
    member.state = member.catchesUp ? "CatchingUp" : "Live"
    member.position = this.position
    const message = this.noticeOf(() => this.snapshot)
    if (message !== undefined) member.connection.sendUnsafe(message, this.room.overflow)
    Deferred.doneUnsafe(member.entered, Effect.void)
  }

  private changed(presence: Presence<Metadata>): void {
    this.tell(presence)
    for (const queue of this.presenceQueues) offer(queue, presence, () => this.snapshot)
  }

  private tell(notice: Notice<Metadata>): void {
    const message = this.members.size > 0 ? this.noticeOf(() => notice) : undefined
    if (message === undefined) return
    const prepared = Message.prepare(message)
    for (const member of this.members.values()) {
      if (member.state === "Live") member.connection.sendUnsafe(prepared, this.room.overflow)
      else if (member.state === "CatchingUp") this.tellInTurn(member, prepared)
    }
  }

  // The queue of who catches up is full on purpose, which is no reason for the room's policy; a second full queue is. But
  // none of the past is dropped.
  private tellInTurn(member: LocalMember, prepared: Message.Prepared): void {
    const { connection, untold } = member
    untold.push(prepared)
    this.catchUpOnNotices(member)
    if (untold.length <= maxWaiting) return
    const { overflow } = this.room
    const given = overflow === "drop-newest" ? untold.pop() : untold.shift()
    if (typeof overflow === "object") connection.sendUnsafe(given!, overflow)
  }

  private noticeOf(notice: () => Notice<Metadata>): Message.Message | undefined {
    const { notify } = this.room
    return notify && this.attempt(() => notify(notice()))
  }

  private attempt<A>(f: () => A): A | undefined {
    try {
      return f()
    } catch (defect) {
      this.onDefect(defect)
      return undefined
    }
  }

  private caughtUp(member: LocalMember): void {
    this.catchingUp.delete(member)
    if (this.catchingUp.size > 0) return
    this.recent = []
    this.recentLength = 0
  }
}

const hasAlready = (member: LocalMember, position: Position | undefined): boolean => {
  if (member.has === undefined) return false
  if (position !== undefined && position.offset <= (member.has.get(position.epoch) ?? -1)) return true
  member.has = undefined
  return false
}

// A consumer that does not keep up loses what waits, and is given what makes up for it, or says so.
const offer = <A>(queue: Queue.Queue<A>, event: A, instead: () => A): void => {
  if (Queue.sizeUnsafe(queue) < maxWaiting) return void Queue.offerUnsafe(queue, event)
  while (Queue.takeUnsafe(queue) !== undefined);
  Queue.offerUnsafe(queue, instead())
}
