/**
 * What a peer can do wrong, as values: each violation knows its close code and the section of the RFC that it breaks.
 *
 * @since 0.1.0
 */

/**
 * A breach of the protocol or of a limit, with the close code that answers it.
 *
 * **Details**
 *
 * - `ProtocolError`: the bytes break a rule of RFC 6455; close code 1002.
 * - `InvalidPayload`: text that is not UTF-8, a close reason that is not, or a compressed payload that is not DEFLATE;
 *   close code 1007.
 * - `LimitExceeded`: well-formed, but more than this endpoint takes; close code 1009 for sizes, 1008 for counts and rates.
 *
 * `section` names the section of RFC 6455, or of RFC 7692 if it says so.
 *
 * @category models
 * @since 0.1.0
 */
export interface ProtocolViolation {
  readonly _tag: "ProtocolError" | "InvalidPayload" | "LimitExceeded"
  readonly closeCode: number
  readonly section: string
  readonly detail: string
}

/**
 * A rule of RFC 6455 is broken (close code 1002).
 *
 * @category constructors
 * @since 0.1.0
 */
export const protocolError = (section: string, detail: string): ProtocolViolation => ({
  _tag: "ProtocolError",
  closeCode: 1002,
  section,
  detail
})

/**
 * Bytes that have to be UTF-8 are not (close code 1007, RFC 6455, section 8.1).
 *
 * @category constructors
 * @since 0.1.0
 */
export const invalidUtf8 = (detail: string): ProtocolViolation => ({
  _tag: "InvalidPayload",
  closeCode: 1007,
  section: "8.1",
  detail
})

/**
 * A message that is marked as compressed cannot be decompressed (RFC 7692, section 7.2.2).
 *
 * **Details**
 *
 * RFC 7692 names no close code. The frames keep all rules, but the data is not what RSV1 says it is, and that is 1007:
 * "data within a message that was not consistent with the type of the message" (RFC 6455, section 7.4.1).
 *
 * @category constructors
 * @since 0.1.0
 */
export const invalidDeflate = (detail: string): ProtocolViolation => ({
  _tag: "InvalidPayload",
  closeCode: 1007,
  section: "RFC 7692, 7.2.2",
  detail
})

/**
 * A message is longer than this endpoint takes (close code 1009, RFC 6455, section 7.4.1).
 *
 * @category constructors
 * @since 0.1.0
 */
export const messageTooBig = (limit: number): ProtocolViolation => ({
  _tag: "LimitExceeded",
  closeCode: 1009,
  section: "7.4.1",
  detail: `message exceeds ${limit} bytes`
})

/**
 * More fragments or control frames than this endpoint's policy allows (close code 1008, RFC 6455, section 7.4.1).
 *
 * @category constructors
 * @since 0.1.0
 */
export const policyViolation = (detail: string): ProtocolViolation => ({
  _tag: "LimitExceeded",
  closeCode: 1008,
  section: "7.4.1",
  detail
})
