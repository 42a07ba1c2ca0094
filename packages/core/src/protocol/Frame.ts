/**
 * The frame model of RFC 6455, section 5.2.
 *
 * @since 0.1.0
 */

/**
 * The opcodes that RFC 6455 defines; all others are reserved (section 5.2).
 *
 * @category models
 * @since 0.1.0
 */
export const Opcode = {
  continuation: 0x0,
  text: 0x1,
  binary: 0x2,
  close: 0x8,
  ping: 0x9,
  pong: 0xa
} as const

/**
 * One of the defined opcodes.
 *
 * @category models
 * @since 0.1.0
 */
export type Opcode = typeof Opcode[keyof typeof Opcode]

/**
 * A whole frame, unmasked.
 *
 * **Details**
 *
 * `rsv` holds the three reserved bits as a number: RSV1 is 4, RSV2 is 2, RSV3 is 1.
 *
 * @category models
 * @since 0.1.0
 */
export interface Frame {
  readonly fin: boolean
  readonly rsv: number
  readonly opcode: Opcode
  readonly payload: Uint8Array
}

/**
 * The role of an endpoint: a client masks what it sends, a server does not (RFC 6455, section 5.1).
 *
 * @category models
 * @since 0.1.0
 */
export type Role = "client" | "server"

/**
 * The value of RSV1 in {@link Frame}, the bit that permessage-deflate uses (RFC 7692, section 6).
 *
 * @category constants
 * @since 0.1.0
 */
export const rsv1 = 4

/**
 * The longest payload of a control frame, in bytes (RFC 6455, section 5.5).
 *
 * @category constants
 * @since 0.1.0
 */
export const maxControlPayload = 125

/**
 * Tells whether an opcode is that of a control frame: its most significant bit is set (RFC 6455, section 5.5).
 *
 * @category guards
 * @since 0.1.0
 */
export const isControl = (opcode: number): boolean => (opcode & 0x8) !== 0

/**
 * Tells whether RFC 6455 defines an opcode (section 5.2).
 *
 * @category guards
 * @since 0.1.0
 */
export const isOpcode = (opcode: number): opcode is Opcode => opcode <= 0x2 || (opcode >= 0x8 && opcode <= 0xa)
