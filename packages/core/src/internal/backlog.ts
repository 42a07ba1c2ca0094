/**
 * What waits to be encoded.
 *
 * @since 0.1.0
 */
import * as MutableList from "effect/MutableList"
import type { Outgoing } from "./outgoing.ts"

type Frames = MutableList.MutableList<Outgoing>

/**
 * The frames that wait for the transport, in order, the control frames that overtake them, and the messages that are held
 * until a streamed one has ended.
 */
export class Backlog {
  private readonly queue: Frames = MutableList.make()
  private controls: Array<Outgoing> = []
  private held: Frames | undefined
  /** What the held messages count for. */
  heldBytes = 0

  get isEmpty(): boolean {
    return this.queue.length === 0
  }

  get waitingControls(): number {
    return this.controls.length
  }

  get isHolding(): boolean {
    return this.held !== undefined
  }

  append(outgoing: Outgoing): void {
    MutableList.append(this.queue, outgoing)
  }

  appendControl(outgoing: Outgoing): void {
    this.controls.push(outgoing)
  }

  /** From now on, messages are held. */
  beginHolding(): void {
    this.held ??= MutableList.make()
  }

  hold(outgoing: Outgoing): void {
    this.heldBytes += outgoing.size
    MutableList.append(this.held!, outgoing)
  }

  /** Puts what was held behind the rest. */
  endHolding(): void {
    MutableList.appendAll(this.queue, MutableList.takeAll(this.held!))
    this.held = undefined
    this.heldBytes = 0
  }

  /** The first frame; there is one at least. */
  take(): Outgoing {
    return MutableList.take(this.queue) as Outgoing
  }

  takeControls(): ReadonlyArray<Outgoing> {
    const { controls } = this
    if (controls.length > 0) this.controls = []
    return controls
  }

  /** Takes the answer to a Ping out, if one waits. */
  takePong(): Outgoing | undefined {
    const at = this.controls.findIndex((frame) => frame.droppable)
    return at < 0 ? undefined : this.controls.splice(at, 1)[0]
  }

  /** Takes the oldest messages out, until there is room. */
  dropUntil(hasRoom: () => boolean, onDropped: (outgoing: Outgoing) => void): void {
    for (const frames of [this.queue, this.held]) {
      if (frames === undefined) continue
      const kept: Array<Outgoing> = []
      while (!hasRoom() && frames.length > 0) {
        const oldest = MutableList.take(frames) as Outgoing
        if (!oldest.droppable) {
          kept.push(oldest)
          continue
        }
        if (frames === this.held) this.heldBytes -= oldest.size
        onDropped(oldest)
      }
      MutableList.prependAll(frames, kept)
    }
  }

  /** Takes out what is held or, with `all`, whatever waits but the control frames. */
  discard(all: boolean): ReadonlyArray<Outgoing> {
    const held = this.held === undefined ? [] : MutableList.takeAll(this.held)
    this.heldBytes = 0
    return all ? [...MutableList.takeAll(this.queue), ...held] : held
  }
}
