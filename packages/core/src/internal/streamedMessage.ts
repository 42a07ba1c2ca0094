/**
 * One message sent as fragments.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Stream from "effect/Stream"
import { Opcode } from "../protocol/Frame.ts"
import type { SendQueue } from "../SendQueue.ts"
import type { SendError } from "../WebSocketError.ts"

const encoder = new TextEncoder()

/**
 * Sends the elements of a stream as the fragments of one message (RFC 6455, section 5.4). `onTorn` is called when the
 * message has begun and cannot be completed.
 */
export const sendStream = <E, R>(
  sending: SendQueue,
  fragments: Stream.Stream<string, E, R> | Stream.Stream<Uint8Array, E, R>,
  onTorn: () => void
): Effect.Effect<void, SendError | E, R> =>
  Effect.suspend(() => {
    let next: Opcode | undefined
    // The first half of a surrogate pair, whose second half comes with the next element.
    let pending = ""

    const payloadOf = (element: string | Uint8Array): Uint8Array => {
      if (typeof element !== "string") return element
      const text = pending + element
      const whole = endsInsidePair(text) ? text.slice(0, -1) : text
      pending = text.slice(whole.length)
      return encoder.encode(whole)
    }

    const append = (element: string | Uint8Array) =>
      Effect.suspend(() => {
        const opcode = next ?? (typeof element === "string" ? Opcode.text : Opcode.binary)
        return Effect.map(sending.sendFragment(opcode, payloadOf(element), false), () => {
          next = Opcode.continuation
        })
      })

    const finish = Effect.suspend(() =>
      next === undefined ? Effect.void : sending.sendFragment(next, encoder.encode(pending), true)
    )

    return (fragments as Stream.Stream<string | Uint8Array, E, R>).pipe(
      Stream.runForEach(append),
      Effect.andThen(finish),
      Effect.onExit((exit) =>
        Effect.sync(() => {
          if (next !== undefined && Exit.isFailure(exit)) onTorn()
        })
      )
    )
  })

const endsInsidePair = (text: string): boolean => {
  const last = text.charCodeAt(text.length - 1)
  return last >= 0xd800 && last <= 0xdbff
}
