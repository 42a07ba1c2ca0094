/**
 * Values as messages: a schema, and the format that its encoded side travels in.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"
import * as Message from "./Message.ts"
import { DecodeError, EncodeError, Malformed, Mismatch, UnexpectedType, Unrepresentable } from "./WebSocketError.ts"

/**
 * Turns values into messages and messages into values.
 *
 * **Details**
 *
 * - `decode` fails with a `DecodeError` whatever the message is: what a peer sends is never a defect.
 * - `prepare` encodes a value once for many connections of a server; see `Message.prepare`.
 *
 * What a schema does without effects is done at once, and the effect returned is an `Exit`.
 *
 * @category models
 * @since 0.1.0
 */
export interface MessageCodec<in out A, out RD = never, out RE = never> {
  readonly decode: (message: Message.Message) => Effect.Effect<A, DecodeError, RD>
  readonly encode: (value: A) => Effect.Effect<Message.Message, EncodeError, RE>
  readonly prepare: (value: A) => Effect.Effect<Message.Prepared, EncodeError, RE>
}

/**
 * How plain values are written as text, or as bytes; `name` is for errors.
 *
 * **Details**
 *
 * `parse` and `print` may throw.
 *
 * **Gotchas**
 *
 * `parse` reads what strangers send. It has to bound its memory by the size of its input, also where lengths in the input
 * promise more than comes.
 *
 * @category models
 * @since 0.1.0
 */
export type Format =
  | {
    readonly type: "Text"
    readonly name: string
    readonly parse: (text: string) => unknown
    readonly print: (value: unknown) => string
  }
  | {
    readonly type: "Binary"
    readonly name: string
    readonly parse: (bytes: Uint8Array) => unknown
    readonly print: (value: unknown) => Uint8Array
  }

const jsonFormat: Format = {
  type: "Text",
  name: "JSON",
  parse: (text) => JSON.parse(text),
  print: (value) => JSON.stringify(value)
}

/**
 * Makes the codec of a schema: JSON in text messages.
 *
 * **Details**
 *
 * The JSON is that of `Schema.toCodecJson`, so that dates, bytes, maps and the like may be part of a message.
 *
 * **Example** (What may be said)
 *
 * ```ts
 * import { MessageCodec } from "@effect-ws/core"
 * import { Schema } from "effect"
 *
 * const Move = Schema.TaggedStruct("Move", { x: Schema.Int, y: Schema.Int })
 * const Say = Schema.TaggedStruct("Say", { text: Schema.String, at: Schema.Date })
 *
 * const messages = MessageCodec.json(Schema.Union([Move, Say]))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const json = <S extends Schema.Constraint>(
  schema: S
): MessageCodec<S["Type"], S["DecodingServices"], S["EncodingServices"]> => make(Schema.toCodecJson(schema), jsonFormat)

/**
 * Makes the codec of a schema in any format.
 *
 * **Details**
 *
 * The encoded side of the schema has to be what the format can write.
 *
 * **Example** (Numbers as eight bytes)
 *
 * ```ts
 * import { MessageCodec } from "@effect-ws/core"
 * import { Schema } from "effect"
 *
 * const numbers = MessageCodec.make(Schema.Finite, {
 *   type: "Binary",
 *   name: "a float64",
 *   parse: (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getFloat64(0),
 *   print: (value) => new Uint8Array(Float64Array.of(Number(value)).buffer).reverse()
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <S extends Schema.Constraint>(
  schema: S,
  format: Format
): MessageCodec<S["Type"], S["DecodingServices"], S["EncodingServices"]> => {
  const fromPlain = SchemaParser.decodeUnknownEffect(schema)
  const toPlain = SchemaParser.encodeUnknownEffect(schema)
  const isOfFormat = (message: unknown) =>
    format.type === "Text" ? typeof message === "string" : message instanceof Uint8Array
  const parse = format.parse as (message: Message.Message) => unknown

  const decode: MessageCodec<S["Type"], S["DecodingServices"]>["decode"] = (message) => {
    const undecodable = (reason: DecodeError["reason"]) => new DecodeError({ reason, length: message.length })
    if (!isOfFormat(message)) return Exit.fail(undecodable(new UnexpectedType({ expected: format.type })))
    let plain: unknown
    try {
      plain = parse(message)
    } catch {
      return Exit.fail(undecodable(new Malformed({ format: format.name })))
    }
    return convert(fromPlain, plain, Exit.succeed, undecodable)
  }

  const print = (plain: unknown): Exit.Exit<Message.Message, EncodeError> => {
    const unrepresentable = (detail: string) =>
      Exit.fail(new EncodeError({ reason: new Unrepresentable({ format: format.name, detail: bounded(detail) }) }))
    try {
      const message = format.print(plain)
      return isOfFormat(message) ? Exit.succeed(message) : unrepresentable(`a lone ${typeof plain}`)
    } catch (error) {
      return unrepresentable(String(error))
    }
  }

  const encode: MessageCodec<S["Type"], never, S["EncodingServices"]>["encode"] = (value) =>
    convert(toPlain, value, print, (reason) => new EncodeError({ reason }))

  return { decode, encode, prepare: (value) => Effect.map(encode(value), Message.prepare) }
}

// What a schema makes of a value: at once, where the schema does.
const convert = <A, B, E, R>(
  parser: (input: unknown) => Effect.Effect<A, SchemaIssue.Issue, R>,
  input: unknown,
  onSuccess: (value: A) => Exit.Exit<B, E>,
  onMismatch: (mismatch: Mismatch) => E
): Effect.Effect<B, E, R> => {
  const onFailure = (cause: Cause.Cause<SchemaIssue.Issue>) =>
    Cause.hasInterruptsOnly(cause)
      ? Exit.failCause(cause as Cause.Cause<never>)
      : Exit.fail(onMismatch(new Mismatch({ detail: detailOf(cause) })))
  let result: Effect.Effect<A, SchemaIssue.Issue, R>
  try {
    result = parser(input)
  } catch (error) {
    // Such as an overflow of the stack, by a value that is nested too deeply.
    return onFailure(Cause.die(error))
  }
  if (!Exit.isExit(result)) return Effect.matchCauseEffect(result, { onSuccess, onFailure })
  const exit = result as Exit.Exit<A, SchemaIssue.Issue>
  return exit._tag === "Success" ? onSuccess(exit.value) : onFailure(exit.cause)
}

const formatIssue = SchemaIssue.makeFormatterDefault()

// Issues tell paths and expectations, not the values that were found; but a path is made of keys, which may be anything.
const detailOf = (cause: Cause.Cause<SchemaIssue.Issue>): string => {
  const issue = Cause.findErrorOption(cause)
  try {
    return bounded(issue._tag === "Some" ? formatIssue(issue.value) : String(Cause.squash(cause)))
  } catch {
    return "nested too deeply"
  }
}

const maxDetail = 300

const bounded = (detail: string): string => detail.length <= maxDetail ? detail : `${detail.slice(0, maxDetail - 1)}…`
