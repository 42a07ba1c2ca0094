/**
 * Rules of RFC 6455 as data: what a peer sends, and what an endpoint that keeps the rule makes of it.
 *
 * @since 0.1.0
 */
import type { State } from "@effect-ws/core/protocol/Engine"
import { Opcode, type Role } from "@effect-ws/core/protocol/Frame"
import * as Wire from "./Wire.ts"

/**
 * One rule, or one attack.
 *
 * **Details**
 *
 * `section` is that of RFC 6455. `role` is the endpoint that the rule binds: both, unless told. `limits` are those that the
 * endpoint has to have for it. With `deflate`, the handshake has agreed on permessage-deflate (RFC 7692). Where the peer breaks a rule, the very last byte of the `steps` is the one that tells.
 *
 * @category models
 * @since 0.1.0
 */
export interface Rule {
  readonly section: string
  readonly title: string
  readonly role?: Role
  readonly limits?: Partial<Limits>
  readonly deflate?: boolean
  readonly steps: ReadonlyArray<Step>
  readonly outcome: Outcome
}

/**
 * What an endpoint takes from its peer.
 *
 * @category models
 * @since 0.1.0
 */
export interface Limits {
  readonly maxMessageBytes: number
  readonly maxFragments: number
  readonly maxControlFramesPerSecond: number
}

/**
 * What happens: the peer sends a frame or bytes, the endpoint itself begins or answers the closing handshake, or time
 * passes. In a `Flood`, the peer sends a frame again and again, and reads nothing, until nothing is taken from it any more,
 * which has to be before it has sent `bytes`; then it reads everything.
 *
 * @category models
 * @since 0.1.0
 */
export type Step =
  | SentFrame
  | { readonly _tag: "Bytes"; readonly bytes: ReadonlyArray<number> }
  | { readonly _tag: "SendClose" }
  | { readonly _tag: "Wait"; readonly millis: number }
  | { readonly _tag: "Flood"; readonly frame: SentFrame; readonly bytes: number }

/**
 * A frame as the peer puts it on the wire, right or wrong.
 *
 * @category models
 * @since 0.1.0
 */
export interface SentFrame extends Wire.Frame {
  readonly _tag: "Frame"
}

/**
 * What the endpoint makes of it: the messages it delivers, what else it notes, and the state that it is in.
 *
 * @category models
 * @since 0.1.0
 */
export interface Outcome {
  readonly messages: ReadonlyArray<string | Uint8Array>
  readonly events: ReadonlyArray<Event>
  readonly state: State["_tag"]
}

/**
 * Something of note. `reply` tells whether it is answered: with a Pong, or with a Close.
 *
 * @category models
 * @since 0.1.0
 */
export type Event =
  | { readonly _tag: "Ping"; readonly payload: Uint8Array; readonly reply: boolean }
  | { readonly _tag: "Pong"; readonly payload: Uint8Array }
  | { readonly _tag: "Close"; readonly code: number | undefined; readonly reason: string }
  | { readonly _tag: "Violation"; readonly closeCode: number; readonly reply: boolean }

/**
 * The peer sends a frame.
 *
 * @category steps
 * @since 0.1.0
 */
export const frame = (opcode: number, payload?: Wire.Payload, options?: Wire.FrameOptions): SentFrame => ({
  _tag: "Frame",
  ...Wire.frame(opcode, payload, options)
})

const frameOf = (opcode: number) => (payload?: Wire.Payload, options?: Wire.FrameOptions) =>
  frame(opcode, payload, options)

/**
 * The peer sends a continuation.
 *
 * @category steps
 * @since 0.1.0
 */
export const continuation = frameOf(Opcode.continuation)

/**
 * The peer sends a text frame.
 *
 * @category steps
 * @since 0.1.0
 */
export const text = frameOf(Opcode.text)

/**
 * The peer sends a binary frame.
 *
 * @category steps
 * @since 0.1.0
 */
export const binary = frameOf(Opcode.binary)

/**
 * The peer sends a Ping.
 *
 * @category steps
 * @since 0.1.0
 */
export const ping = frameOf(Opcode.ping)

/**
 * The peer sends a Pong.
 *
 * @category steps
 * @since 0.1.0
 */
export const pong = frameOf(Opcode.pong)

/**
 * The peer sends a Close.
 *
 * @category steps
 * @since 0.1.0
 */
export const close = (code?: number, reason?: Wire.Payload): SentFrame => ({
  _tag: "Frame",
  ...Wire.close(code, reason)
})

/**
 * The peer sends bytes.
 *
 * @category steps
 * @since 0.1.0
 */
export const bytes = (...bytes: ReadonlyArray<number>): Step => ({ _tag: "Bytes", bytes })

/**
 * The endpoint begins, or answers, the closing handshake.
 *
 * @category steps
 * @since 0.1.0
 */
export const sendClose: Step = { _tag: "SendClose" }

/**
 * Milliseconds pass.
 *
 * @category steps
 * @since 0.1.0
 */
export const wait = (millis: number): Step => ({ _tag: "Wait", millis })

/**
 * The peer floods the endpoint, and does not read.
 *
 * @category steps
 * @since 0.1.0
 */
export const flood = (frame: SentFrame, bytes: number): Step => ({ _tag: "Flood", frame, bytes })

/**
 * A Ping came.
 *
 * @category outcomes
 * @since 0.1.0
 */
export const pinged = (payload: Wire.Payload = "", reply = true): Event => ({
  _tag: "Ping",
  payload: Wire.bytesOf(payload),
  reply
})

/**
 * A Pong came.
 *
 * @category outcomes
 * @since 0.1.0
 */
export const ponged = (payload: Wire.Payload = ""): Event => ({ _tag: "Pong", payload: Wire.bytesOf(payload) })

/**
 * A Close came.
 *
 * @category outcomes
 * @since 0.1.0
 */
export const closed = (code?: number, reason = ""): Event => ({ _tag: "Close", code, reason })

/**
 * The endpoint takes all of it, and the connection is where `state` says; by default it is open.
 *
 * @category outcomes
 * @since 0.1.0
 */
export const takes = (expected: Partial<Outcome>): Outcome => ({ messages: [], events: [], state: "Open", ...expected })

/**
 * The endpoint fails the connection with `closeCode`, after what it took before.
 *
 * @category outcomes
 * @since 0.1.0
 */
export const fails = (closeCode: number, before: Partial<Outcome> & { readonly reply?: boolean } = {}): Outcome => ({
  messages: before.messages ?? [],
  events: [...before.events ?? [], { _tag: "Violation", closeCode, reply: before.reply ?? true }],
  state: "Failed"
})
