/**
 * One rule of RFC 6455 as data: what a peer sends, and what an endpoint that keeps the rule makes of it.
 */
import type { State } from "@effect-ws/core/protocol/Engine"
import { Opcode, type Role } from "@effect-ws/core/protocol/Frame"

export interface Rule {
  readonly section: string
  readonly title: string
  /** The endpoint that the rule binds; both, unless told. */
  readonly role?: Role
  readonly limits?: Partial<Limits>
  /** What happens, in order. Where the peer breaks a rule, the very last byte is the one that tells. */
  readonly steps: ReadonlyArray<Step>
  readonly outcome: Outcome
}

export interface Limits {
  readonly maxMessageBytes: number
  readonly maxFragments: number
  readonly maxControlFramesPerSecond: number
}

export type Step =
  | WireFrame
  | { readonly _tag: "Bytes"; readonly bytes: ReadonlyArray<number> }
  /** The endpoint itself begins, or answers, the closing handshake. */
  | { readonly _tag: "SendClose" }
  | { readonly _tag: "Wait"; readonly millis: number }

/** A frame as the peer puts it on the wire, right or wrong. */
export interface WireFrame extends WireOptions {
  readonly _tag: "Frame"
  readonly opcode: number
  readonly payload: Uint8Array
}

export interface WireOptions {
  readonly fin?: boolean
  readonly rsv?: number
  /** The length that the header tells, if it is not that of the payload. */
  readonly announced?: number
  /** The bits that the length is written in, if not the fewest. */
  readonly lengthBits?: 7 | 16 | 64
  /** Whether the frame is masked, if not as the peer's role demands. */
  readonly masked?: boolean
  readonly maskKey?: readonly [number, number, number, number]
  /** How many bytes of the frame are sent, if not all. */
  readonly upTo?: number
}

export interface Outcome {
  readonly messages: ReadonlyArray<string | Uint8Array>
  readonly events: ReadonlyArray<Event>
  readonly state: State["_tag"]
}

export type Event =
  | { readonly _tag: "Ping"; readonly payload: Uint8Array; readonly reply: boolean }
  | { readonly _tag: "Pong"; readonly payload: Uint8Array }
  | { readonly _tag: "Close"; readonly code: number | undefined; readonly reason: string }
  | { readonly _tag: "Violation"; readonly closeCode: number; readonly reply: boolean }

// What a peer sends.

/** Text stands for its UTF-8. */
export type Payload = string | Uint8Array | ReadonlyArray<number>

export const bytesOf = (payload: Payload): Uint8Array =>
  typeof payload === "string" ? new TextEncoder().encode(payload) : Uint8Array.from(payload)

/** Bytes in which a shift, a gap or a wrong mask would show. */
export const pattern = (length: number, seed = 0): Uint8Array => {
  const bytes = new Uint8Array(length)
  for (let i = 0; i < length; i++) bytes[i] = seed + i * 7 + (i >>> 8)
  return bytes
}

export const frame = (
  opcode: number,
  payload: Payload = "",
  options: WireOptions = {}
): WireFrame => ({ ...options, _tag: "Frame", opcode, payload: bytesOf(payload) })

const frameOf = (opcode: number) => (payload?: Payload, options?: WireOptions) => frame(opcode, payload, options)

export const continuation = frameOf(Opcode.continuation)
export const text = frameOf(Opcode.text)
export const binary = frameOf(Opcode.binary)
export const ping = frameOf(Opcode.ping)
export const pong = frameOf(Opcode.pong)

export const close = (code?: number, reason: Payload = ""): WireFrame =>
  frame(Opcode.close, code === undefined ? [] : [code >>> 8, code & 0xff, ...bytesOf(reason)])

export const bytes = (...bytes: ReadonlyArray<number>): Step => ({ _tag: "Bytes", bytes })
export const sendClose: Step = { _tag: "SendClose" }
export const wait = (millis: number): Step => ({ _tag: "Wait", millis })

/** Not the last fragment of its message. */
export const more: WireOptions = { fin: false }

// What comes of it.

export const pinged = (payload: Payload = "", reply = true): Event => ({
  _tag: "Ping",
  payload: bytesOf(payload),
  reply
})

export const ponged = (payload: Payload = ""): Event => ({
  _tag: "Pong",
  payload: bytesOf(payload)
})

export const closed = (code?: number, reason = ""): Event => ({ _tag: "Close", code, reason })

/** The endpoint takes all of it, and the connection is where `state` says. */
export const takes = (expected: Partial<Outcome>): Outcome => ({ messages: [], events: [], state: "Open", ...expected })

/** The endpoint fails the connection with `closeCode`, after what it took before. */
export const fails = (closeCode: number, before: Partial<Outcome> & { readonly reply?: boolean } = {}): Outcome => ({
  messages: before.messages ?? [],
  events: [...before.events ?? [], { _tag: "Violation", closeCode, reply: before.reply ?? true }],
  state: "Failed"
})

// How it looks on the wire. Written for this table, so that no encoder under test vouches for a decoder under test.

export const peerOf = (role: Role): Role => role === "server" ? "client" : "server"

export const encode = (sender: Role, sent: WireFrame): Uint8Array => {
  const { fin = true, masked = sender === "client", maskKey = [0x37, 0xfa, 0x21, 0x3d], payload, rsv = 0 } = sent
  const length = sent.announced ?? payload.length
  const lengthBits = sent.lengthBits ?? (length <= 125 ? 7 : length <= 0xffff ? 16 : 64)
  const header = [
    (fin ? 0x80 : 0) | (rsv << 4) | sent.opcode,
    (masked ? 0x80 : 0) | (lengthBits === 7 ? length : lengthBits === 16 ? 126 : 127),
    ...(lengthBits === 7 ? [] : bigEndian(length, lengthBits / 8)),
    ...(masked ? maskKey : [])
  ]
  const bytes = new Uint8Array(header.length + payload.length)
  bytes.set(header)
  bytes.set(masked ? payload.map((byte, i) => byte ^ maskKey[i % 4]!) : payload, header.length)
  return bytes.subarray(0, sent.upTo)
}

const bigEndian = (value: number, size: number): Array<number> =>
  Array.from({ length: size }, (_, i) => Number((BigInt(value) >> BigInt(8 * (size - 1 - i))) & 0xffn))
