/**
 * Values as binary messages in MessagePack.
 *
 * @since 0.1.0
 */
import * as MessageCodec from "@effect-ws/core/MessageCodec"
import { Decoder, Encoder, ExtensionCodec } from "@msgpack/msgpack"
import type * as Schema from "effect/Schema"
import { check } from "./internal/structure.ts"

// Of the extensions only timestamps are known, and `check` lets no others pass.
class PlainOrDate extends ExtensionCodec {
  override tryToEncode(object: unknown, context: undefined) {
    if (Array.isArray(object) || object instanceof Uint8Array || object instanceof Date || isPlain(object)) {
      return super.tryToEncode(object, context)
    }
    // It would be written as a map of its fields, and would not come back.
    throw new TypeError(`${Object.prototype.toString.call(object)} has no form in MessagePack`)
  }
}

const isPlain = (object: unknown): boolean => {
  const prototype: unknown = Object.getPrototypeOf(object)
  return prototype === null || prototype === Object.prototype
}

const extensionCodec = new PlainOrDate()
// A field that is undefined is left out, as in JSON.
const encoder = new Encoder({ extensionCodec, ignoreUndefined: true })
const decoder = new Decoder({ extensionCodec })

const format: MessageCodec.Format = {
  type: "Binary",
  name: "MessagePack",
  parse: (bytes) => {
    check(bytes)
    return decoder.decode(bytes)
  },
  print: (value) => encoder.encode(value)
}

/**
 * Makes the codec of a schema: MessagePack in binary messages.
 *
 * **Details**
 *
 * The encoded side of the schema is made of what MessagePack has: null, booleans, numbers, strings, `Uint8Array`s, `Date`s,
 * and arrays and objects of these, nested at most 100 deep. What else there is, such as a `Map`, does not encode;
 * `Schema.toCodecJson` gives any schema an encoded side that does.
 *
 * What is received is decoded only if it is whole, so that its memory is bounded by its size. Extensions other than
 * timestamps, and `__proto__` as a key, do not decode.
 *
 * **Example** (Pictures without Base64)
 *
 * ```ts
 * import { MessagePack } from "@effect-ws/msgpack"
 * import { Schema } from "effect"
 *
 * const messages = MessagePack.codec(Schema.TaggedUnion({
 *   Say: { text: Schema.String, at: Schema.Date },
 *   Show: { picture: Schema.Uint8Array }
 * }))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const codec = <S extends Schema.Constraint>(
  schema: S
): MessageCodec.MessageCodec<S["Type"], S["DecodingServices"], S["EncodingServices"]> =>
  MessageCodec.make(schema, format)
