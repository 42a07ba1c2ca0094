/**
 * Whether bytes are one MessagePack value, found out without building anything.
 *
 * A decoder makes room for an array as soon as it has read its length. Here lengths are held against what has really come,
 * so that a value which passes takes memory in proportion to its bytes.
 *
 * @since 0.1.0
 */

/** How deeply arrays and maps may be nested. */
export const maxDepth = 100

/** Throws, unless the bytes are one whole value whose only extensions are timestamps. */
export const check = (bytes: Uint8Array): void => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  // How many values are still to come: in the innermost array or map, and in each of those around it.
  let due = 1
  const around: Array<number> = []
  let at = 0
  while (true) {
    if (due === 0) {
      const outer = around.pop()
      if (outer === undefined) break
      due = outer
      continue
    }
    due--
    // Reading behind the end throws, wherever a length has led.
    const { end, values } = headAt(view, at)
    at = end
    if (values === 0) continue
    if (around.length === maxDepth) throw new RangeError(`nested more than ${maxDepth} deep`)
    around.push(due)
    due = values
  }
  if (at !== bytes.length) throw new RangeError("not one value")
}

interface Head {
  /** Where what belongs to the value itself ends. */
  readonly end: number
  /** How many values follow that the value is made of. */
  readonly values: number
}

const leaf = (end: number): Head => ({ end, values: 0 })

const timestamp = (view: DataView, typeAt: number, bytes: number): Head => {
  if (view.getInt8(typeAt) !== -1) throw new TypeError("not a timestamp")
  return leaf(typeAt + 1 + bytes)
}

// By the first byte: https://github.com/msgpack/msgpack/blob/master/spec.md#formats
const headAt = (view: DataView, at: number): Head => {
  const first = view.getUint8(at)
  const next = at + 1
  if (first < 0x80 || first >= 0xe0) return leaf(next)
  if (first < 0x90) return { end: next, values: 2 * (first & 0x0f) }
  if (first < 0xa0) return { end: next, values: first & 0x0f }
  if (first < 0xc0) return leaf(next + (first & 0x1f))
  switch (first) {
    // nil, booleans
    case 0xc0:
    case 0xc2:
    case 0xc3:
      return leaf(next)
    // numbers of 1, 2, 4 and 8 bytes
    case 0xcc:
    case 0xd0:
      return leaf(next + 1)
    case 0xcd:
    case 0xd1:
      return leaf(next + 2)
    case 0xca:
    case 0xce:
    case 0xd2:
      return leaf(next + 4)
    case 0xcb:
    case 0xcf:
    case 0xd3:
      return leaf(next + 8)
    // binary and strings
    case 0xc4:
    case 0xd9:
      return leaf(next + 1 + view.getUint8(next))
    case 0xc5:
    case 0xda:
      return leaf(next + 2 + view.getUint16(next))
    case 0xc6:
    case 0xdb:
      return leaf(next + 4 + view.getUint32(next))
    // arrays and maps
    case 0xdc:
      return { end: next + 2, values: view.getUint16(next) }
    case 0xdd:
      return { end: next + 4, values: view.getUint32(next) }
    case 0xde:
      return { end: next + 2, values: 2 * view.getUint16(next) }
    case 0xdf:
      return { end: next + 4, values: 2 * view.getUint32(next) }
    // extensions of 4, 8 and 12 bytes, as timestamps have
    case 0xd6:
      return timestamp(view, next, 4)
    case 0xd7:
      return timestamp(view, next, 8)
    case 0xc7:
      if (view.getUint8(next) !== 12) throw new TypeError("not a timestamp")
      return timestamp(view, next + 1, 12)
    default:
      throw new TypeError("no such format")
  }
}
