/**
 * The other side of a connection, played by a test frame by frame.
 *
 * @since 0.1.0
 */
import { type Frame, Opcode, type Role } from "@effect-ws/core/protocol/Frame"
import { FrameDecoder } from "@effect-ws/core/protocol/FrameDecoder"
import * as FrameEncoder from "@effect-ws/core/protocol/FrameEncoder"
import type { Transport } from "@effect-ws/core/Transport"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import { type LinkOptions, makePair } from "./TestTransport.ts"

/**
 * A peer under the control of a test.
 *
 * **Details**
 *
 * `transport` is the end that the connection under test is made from. `frame` takes the next frame that the connection
 * sent and fails with `Cause.Done` after the connection's last. `send` sends frames as the peer's role would, in one
 * write; `sendBytes` sends anything. `isBlocked` tells whether the connection leaves more of it unread than the link holds.
 * `stall` stops reading, so that the connection sees backpressure.
 *
 * @category models
 * @since 0.1.0
 */
export interface TestPeer {
  readonly transport: Transport
  readonly frame: Effect.Effect<Frame, Cause.Done>
  readonly send: (...frames: ReadonlyArray<Frame>) => Effect.Effect<void>
  readonly sendBytes: (bytes: Uint8Array) => Effect.Effect<void>
  readonly sendText: (...texts: ReadonlyArray<string>) => Effect.Effect<void>
  readonly sendClose: (code?: number, reason?: string) => Effect.Effect<void>
  readonly isBlocked: Effect.Effect<boolean>
  readonly stall: Effect.Effect<void>
  readonly unstall: Effect.Effect<void>
  readonly end: Effect.Effect<void>
  readonly reset: Effect.Effect<void>
}

const encoder = new TextEncoder()
// A test's bytes should not depend on chance, so its mask is always the same.
const maskKey = 0x37fa213d

/**
 * A whole frame of text.
 *
 * @category frames
 * @since 0.1.0
 */
export const text = (payload: string): Frame => ({
  fin: true,
  rsv: 0,
  opcode: Opcode.text,
  payload: encoder.encode(payload)
})

/**
 * A Close frame; without a code, an empty one.
 *
 * @category frames
 * @since 0.1.0
 */
export const close = (code?: number, reason = ""): Frame => {
  const head = code === undefined ? [] : [code >>> 8, code & 0xff]
  return { fin: true, rsv: 0, opcode: Opcode.close, payload: Uint8Array.from([...head, ...encoder.encode(reason)]) }
}

/**
 * Encodes frames as an endpoint of the given role sends them.
 *
 * @category frames
 * @since 0.1.0
 */
export const encodeFrames = (role: Role, frames: ReadonlyArray<Frame>): Uint8Array => {
  const encoded = frames.map((frame) => FrameEncoder.encode(frame, role === "client" ? maskKey : undefined))
  const bytes = new Uint8Array(encoded.reduce((length, each) => length + each.length, 0))
  let at = 0
  for (const each of encoded) {
    bytes.set(each, at)
    at += each.length
  }
  return bytes
}

/**
 * Makes a peer of the given role over an in-memory link.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (role: Role, options: LinkOptions = {}): Effect.Effect<TestPeer> =>
  Effect.gen(function*() {
    const [transport, own] = makePair(options)
    const frames = yield* Queue.unbounded<Frame, Cause.Done>()
    const decoder = new FrameDecoder({ role, reservedBits: 7 })
    let payload = new Uint8Array(0)
    let received = 0
    let isBlocked = false
    own.start({
      onData: (chunk) => {
        decoder.push(chunk)
        for (let piece = decoder.next(); piece !== undefined; piece = decoder.next()) {
          if (piece._tag !== "FramePiece") return Queue.failCauseUnsafe(frames, Cause.die(piece))
          if (piece.first) payload = new Uint8Array(piece.length)
          payload.set(piece.bytes.subarray(piece.start, piece.end), received)
          received += piece.end - piece.start
          if (!piece.last) continue
          const { fin, opcode, rsv } = piece
          Queue.offerUnsafe(frames, { fin, rsv, opcode, payload })
          received = 0
        }
      },
      onDrain: () => {
        isBlocked = false
      },
      onEnd: () => Queue.endUnsafe(frames),
      onClose: () => Queue.endUnsafe(frames)
    })
    const sendBytes = (bytes: Uint8Array) =>
      Effect.sync(() => {
        isBlocked = !own.write([bytes])
      })
    const send = (...sent: ReadonlyArray<Frame>) => sendBytes(encodeFrames(role, sent))
    return {
      transport,
      frame: Queue.take(frames),
      send,
      sendBytes,
      sendText: (...texts) => send(...texts.map(text)),
      sendClose: (code, reason) => send(close(code, reason)),
      isBlocked: Effect.sync(() => isBlocked),
      stall: Effect.sync(() => own.pause()),
      unstall: Effect.sync(() => own.resume()),
      end: Effect.sync(() => own.end()),
      reset: Effect.sync(() => own.destroy())
    }
  })
