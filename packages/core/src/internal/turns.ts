/**
 * Who waits for room in a queue, and for their turn.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import { ConnectionNotOpen, SendError } from "../WebSocketError.ts"

export const notOpen = new SendError({ reason: new ConnectionNotOpen({}) })

// A class, not a literal, for the reason of `Consumer` in ReceiveQueue.ts.
class Turn {
  readonly fits: () => boolean
  readonly accept: () => void
  readonly resume: (effect: Effect.Effect<void, SendError>) => void

  constructor(fits: Turn["fits"], accept: Turn["accept"], resume: Turn["resume"]) {
    this.fits = fits
    this.accept = accept
    this.resume = resume
  }
}

/**
 * First come, first served: nobody overtakes one who does not fit yet.
 */
export class Turns {
  // Allocated when first used: few connections ever wait.
  private waiting: Array<Turn> | undefined
  private isOver = false

  get isEmpty(): boolean {
    return this.waiting === undefined || this.waiting.length === 0
  }

  /**
   * Calls `accept` now, or when all before have had their turn and `fits` says so. Interruption gives the turn up: nothing
   * is accepted, and the owner is told.
   */
  take(
    fits: () => boolean,
    accept: () => void,
    owner: { readonly onGivenUp: () => void }
  ): Effect.Effect<void, SendError> {
    return Effect.callback((resume) => {
      if (this.isOver) return resume(Effect.fail(notOpen))
      if (this.isEmpty && fits()) {
        accept()
        return resume(Effect.void)
      }
      const turn = new Turn(fits, accept, resume)
      const waiting = this.waiting ??= []
      waiting.push(turn)
      return Effect.sync(() => {
        const at = waiting.indexOf(turn)
        if (at < 0) return
        waiting.splice(at, 1)
        owner.onGivenUp()
      })
    })
  }

  /** Serves all that fit, in order; tells whether there was one. */
  serve(): boolean {
    let served = false
    for (let turn = this.waiting?.[0]; turn?.fits(); turn = this.waiting?.[0]) {
      this.waiting!.shift()
      turn.accept()
      turn.resume(Effect.void)
      served = true
    }
    return served
  }

  /** Fails all who wait, and whoever comes. */
  end(): void {
    this.isOver = true
    for (const turn of this.waiting?.splice(0) ?? []) turn.resume(Effect.fail(notOpen))
  }
}

/** Who waits to send, and who for the end of it all. */
export class Waiting {
  readonly fragments = new Turns()
  readonly controls = new Turns()
  readonly senders = new Turns()
  readonly seal = new Turns()

  serve(): boolean {
    const fragments = this.fragments.serve()
    const controls = this.controls.serve()
    return this.senders.serve() || fragments || controls
  }

  end(): void {
    for (const turns of [this.fragments, this.controls, this.senders, this.seal]) turns.end()
  }
}
