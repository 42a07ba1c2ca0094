import { type Compression, type DeflateOptions, type NegotiatedDeflate, settle } from "@effect-ws/core/Compression"
import { type Frame, Opcode } from "@effect-ws/core/protocol/Frame"
import type { Parameters, WindowBits } from "@effect-ws/core/protocol/PerMessageDeflate"
import { NodeCompression } from "@effect-ws/node"

export const { compression } = NodeCompression

export interface Agreed {
  readonly contextTakeover?: boolean
  readonly windowBits?: WindowBits
  readonly options?: DeflateOptions
  readonly compression?: Compression
}

/** What a handshake agreed on, the same for both directions. A threshold of nothing, unless the options say otherwise. */
export const negotiated = (agreed: Agreed = {}): NegotiatedDeflate => {
  const { contextTakeover = false, options, windowBits = 15 } = agreed
  const settings = settle(agreed.compression ?? compression, { threshold: 0, ...options })!
  const direction = { contextTakeover, windowBits }
  const parameters: Parameters = { sending: direction, receiving: direction }
  return { settings: { ...settings, wanted: parameters }, agreed: parameters }
}

/** Counts how often each half is called, and what the second gives. */
export const counted = () => {
  const calls = { deflate: 0, inflate: 0, inflatedBytes: 0 }
  const counting: Compression = {
    deflate: (bytes, options) => {
      calls.deflate++
      return compression.deflate(bytes, options)
    },
    inflate: (bytes, options) => {
      const inflated = compression.inflate(bytes, options)
      calls.inflate++
      if (typeof inflated !== "string") calls.inflatedBytes += inflated.length
      return inflated
    }
  }
  return { calls, compression: counting }
}

export const none = new Uint8Array(0)

export const bytesOf = (payload: string | Uint8Array): Uint8Array =>
  typeof payload === "string" ? new TextEncoder().encode(payload) : payload

export const hex = (digits: string): Uint8Array => new Uint8Array(Buffer.from(digits.replaceAll(" ", ""), "hex"))

export const compressed = (payload: string | Uint8Array, dictionary: Uint8Array = none, windowBits = 15): Uint8Array =>
  compression.deflate(bytesOf(payload), { level: 6, windowBits, dictionary })

export const inflated = (payload: Uint8Array, dictionary: Uint8Array = none): string => {
  const bytes = compression.inflate(payload, { maxBytes: 2 ** 24, dictionary })
  return typeof bytes === "string" ? bytes : new TextDecoder().decode(bytes)
}

/** A frame of a compressed message: the first one, with RSV1. */
export const marked = (payload: Uint8Array, options: Partial<Frame> = {}): Frame => ({
  fin: true,
  rsv: 4,
  opcode: Opcode.text,
  payload,
  ...options
})

/** One that follows. */
export const following = (payload: Uint8Array, options: Partial<Frame> = {}): Frame => ({
  fin: true,
  rsv: 0,
  opcode: Opcode.continuation,
  payload,
  ...options
})
