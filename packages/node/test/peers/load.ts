/**
 * What the two ends of a backpressure test send each other: messages that tell their place in the sequence.
 */
export interface Load {
  readonly messages: number
  /** The payload bytes of each message. */
  readonly size: number
}

/** The payload of a message: its number, as far as there is room, and then the last byte of that again and again. */
export const payload = (index: number, size: number): Uint8Array => {
  const bytes = new Uint8Array(size).fill(index)
  if (size >= 4) new DataView(bytes.buffer).setUint32(0, index)
  return bytes
}

/** Tells whether this is the payload of the message with this number, whole. */
export const isPayload = (bytes: Uint8Array, index: number, size: number): boolean => {
  if (bytes.length !== size) return false
  for (let i = 0; i < size; i++) {
    const expected = size >= 4 && i < 3 ? index >>> (24 - 8 * i) : index
    if (bytes[i] !== (expected & 0xff)) return false
  }
  return true
}
