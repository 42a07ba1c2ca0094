/**
 * The payload of a Close frame (RFC 6455, sections 5.5.1, 7.1.5, 7.1.6 and 7.4).
 *
 * @since 0.1.0
 */
import { maxControlPayload } from "./Frame.ts"
import { invalidUtf8, protocolError, type ProtocolViolation } from "./ProtocolViolation.ts"
import type { Utf8Codec } from "./Utf8.ts"

/**
 * What a Close frame says; no code stands for an empty payload.
 *
 * @category models
 * @since 0.1.0
 */
export interface CloseFrame {
  readonly code: number | undefined
  readonly reason: string
}

/**
 * The longest reason, in bytes of UTF-8: what a control frame's payload leaves beside the code (RFC 6455, section 5.5).
 *
 * @category constants
 * @since 0.1.0
 */
export const maxReasonBytes = maxControlPayload - 2

/**
 * Tells whether a close code may travel in a Close frame.
 *
 * **Details**
 *
 * 1004, 1005, 1006 and 1015 are reserved for local use (RFC 6455, section 7.4.1), 1000-2999 belong to the protocol and
 * only the registered ones may be used, 3000-4999 to libraries and applications (section 7.4.2). 1012, 1013 and 1014 are
 * registered with IANA.
 *
 * @category guards
 * @since 0.1.0
 */
export const isCloseCode = (code: number): boolean =>
  Number.isInteger(code) &&
  ((code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999))

/**
 * Decodes the payload of a Close frame.
 *
 * @category decoding
 * @since 0.1.0
 */
export const decode = (payload: Uint8Array, utf8: Utf8Codec): CloseFrame | ProtocolViolation => {
  if (payload.length === 0) return { code: undefined, reason: "" }
  if (payload.length === 1) return protocolError("5.5.1", "close payload of one byte")
  const code = (payload[0]! << 8) | payload[1]!
  if (!isCloseCode(code)) return protocolError("7.4", `close code ${code} may not be sent`)
  if (payload.length === 2) return { code, reason: "" }
  const reason = utf8.decode(payload, 2, payload.length)
  return reason === undefined ? invalidUtf8("close reason is not UTF-8") : { code, reason }
}

/**
 * Encodes the payload of a Close frame. The caller has checked the code and the length of the reason.
 *
 * @category encoding
 * @since 0.1.0
 */
export const encode = (close: CloseFrame, utf8: Utf8Codec): Uint8Array => {
  if (close.code === undefined) return new Uint8Array(0)
  const payload = new Uint8Array(2 + utf8.byteLength(close.reason))
  payload[0] = close.code >>> 8
  payload[1] = close.code & 0xff
  if (close.reason !== "") utf8.encodeInto(close.reason, payload, 2)
  return payload
}
