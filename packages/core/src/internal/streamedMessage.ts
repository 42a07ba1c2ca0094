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
 * message has begun and cannot be completed. The end of the connection does not wait for the next element.
 */
export const sendStream = <E, R>(
  sending: SendQueue,
  fragments: Stream.Stream<string, E, R> | Stream.Stream<Uint8Array, E, R>,
  onTorn: () => void
): Effect.Effect<void, SendError | E, R> =>
  Effect.suspend(() => {
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
        const first = typeof element === "string" ? Opcode.text : Opcode.binary
        return sending.sendFragment(sending.isStreaming ? Opcode.continuation : first, payloadOf(element), false)
      })

    const finish = Effect.suspend(() =>
      sending.isStreaming ? sending.sendFragment(Opcode.continuation, encoder.encode(pending), true) : Effect.void
    )

    const message = (fragments as Stream.Stream<string | Uint8Array, E, R>).pipe(
      Stream.runForEach(append),
      Effect.andThen(finish)
    )
    return Effect.raceFirst(sending.awaitSealed, message).pipe(
      Effect.onExit((exit) =>
        Effect.sync(() => {
          if (sending.isStreaming && Exit.isFailure(exit)) onTorn()
        })
      )
    )
  })

const endsInsidePair = (text: string): boolean => {
  const last = text.charCodeAt(text.length - 1)
  return last >= 0xd800 && last <= 0xdbff
}
