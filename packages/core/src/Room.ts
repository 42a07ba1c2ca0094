/**
 * What a room is: a name, and how its messages and its members look.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Hash from "effect/Hash"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { type Message, prepare } from "./Message.ts"
import type { MessageCodec } from "./MessageCodec.ts"
import type { Overflow } from "./SendQueue.ts"
import type { EncodeError } from "./WebSocketError.ts"

/**
 * A room: everybody who uses the same name meets in it, in this process and, with a broker that spans them, in others.
 *
 * **Details**
 *
 * A room is only a description and costs nothing; {@link make} says what its parts are. Rooms are equal if their names are,
 * and a program gives all rooms of a name the same options.
 *
 * @category models
 * @since 0.1.0
 */
export interface Room<in out Metadata, in Value> extends Equal.Equal {
  readonly name: string
  readonly metadata: MetadataCodec<Metadata>
  readonly encode: (value: Value) => Effect.Effect<Message, EncodeError>
  readonly history: History | undefined
  readonly overflow: RoomOverflow
  readonly stamp: ((message: Message, position: Position) => Message) | undefined
  readonly notify: ((notice: Notice<Metadata>) => Message | undefined) | undefined
}

/**
 * What becomes of a message where a member's queue has no room: one of the policies of a connection, but for those that
 * would make the publisher wait or fail.
 *
 * @category models
 * @since 0.1.0
 */
export type RoomOverflow = Exclude<Overflow, "suspend" | "fail">

/**
 * How many messages a room keeps, and for how long.
 *
 * @category models
 * @since 0.1.0
 */
export interface History {
  readonly messages: number
  readonly age: Duration.Duration
}

/**
 * The place of a message in the history of its room: offsets count up by one, and belong to an epoch.
 *
 * **Details**
 *
 * An epoch ends when the room is forgotten, or its broker loses what it knew, or may have lost some of it: then offsets mean
 * something else, and a client that comes with a position that does not count any more gets a typed error instead of wrong
 * messages.
 *
 * @category models
 * @since 0.1.0
 */
export const Position = Schema.Struct({
  epoch: Schema.String,
  offset: Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))
})

/**
 * The place of a message in the history of its room.
 *
 * @category models
 * @since 0.1.0
 */
export interface Position extends Schema.Schema.Type<typeof Position> {}

/**
 * Somebody who is in a room. The `id` is another one for each join.
 *
 * @category models
 * @since 0.1.0
 */
export interface Member<out Metadata> {
  readonly id: string
  readonly metadata: Metadata
}

/**
 * Who is in a room, and what changes.
 *
 * **Details**
 *
 * A `Snapshot` comes first, and again whenever changes were missed: it replaces what was known.
 *
 * @category models
 * @since 0.1.0
 */
export type Presence<Metadata> =
  | { readonly _tag: "Snapshot"; readonly members: ReadonlyArray<Member<Metadata>> }
  | { readonly _tag: "Joined" | "Updated" | "Left"; readonly member: Member<Metadata> }

/**
 * A message of a room, as it was published; with its position, if the room has a history.
 *
 * @category models
 * @since 0.1.0
 */
export interface Published {
  readonly _tag: "Published"
  readonly message: Message
  readonly position: Position | undefined
}

/**
 * Between the messages before and those after it, others may have been lost: the broker was out of reach.
 *
 * @category models
 * @since 0.1.0
 */
export interface Gap {
  readonly _tag: "Gap"
}

/**
 * What a room's members can be told, beside its messages.
 *
 * @category models
 * @since 0.1.0
 */
export type Notice<Metadata> = Presence<Metadata> | Gap

/**
 * How a member's metadata travels between processes.
 *
 * @category models
 * @since 0.1.0
 */
export interface MetadataCodec<in out Metadata> {
  readonly encode: (metadata: Metadata) => Effect.Effect<Schema.Json, Schema.SchemaError>
  readonly decode: (json: Schema.Json) => Option.Option<Metadata>
}

/**
 * What a room is like, all optional.
 *
 * **Details**
 *
 * | option | default | meaning |
 * |---|---|---|
 * | `member` | `Schema.Void` | the metadata that a member shows to the others |
 * | `message` | values are messages | the codec of what is published, and of what `notify` gives |
 * | `history` | none | how many messages to keep, and for how long (`age`, 1 hour) |
 * | `overflow` | `{ close: 1013 }` | what becomes of a message where a member's queue is full; a publish may say otherwise |
 * | `stamp` | none | puts its position into what is published, so that a client can say what it saw last |
 * | `notify` | none | what is sent to members about who is in and about gaps; nothing where it gives `undefined` |
 *
 * `stamp` and `notify` run once in each process, however many members are in the room.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<in out Metadata, in out Value> {
  readonly member?: Schema.Codec<Metadata, any> | undefined
  readonly message?: MessageCodec<Value> | undefined
  readonly history?: { readonly messages: number; readonly age?: Duration.Input | undefined } | undefined
  readonly overflow?: RoomOverflow | undefined
  readonly stamp?: NoInfer<(value: Value, position: Position) => Value> | undefined
  readonly notify?: NoInfer<(notice: Notice<Metadata>) => Value | undefined> | undefined
}

/**
 * Describes a room.
 *
 * **When to use**
 *
 * For one room as a constant, for many alike as a function of what tells them apart.
 *
 * **Example** (The channels of a chat)
 *
 * ```ts
 * import { MessageCodec, Room } from "@effect-ws/core"
 * import { Schema } from "effect"
 *
 * const Event = Schema.TaggedUnion({
 *   Said: { name: Schema.String, text: Schema.String },
 *   Joined: { name: Schema.String },
 *   Left: { name: Schema.String }
 * })
 *
 * const channel = (name: string) =>
 *   Room.make(`channel/${name}`, {
 *     member: Schema.Struct({ name: Schema.String }),
 *     message: MessageCodec.json(Event),
 *     notify: (notice) =>
 *       notice._tag === "Joined" || notice._tag === "Left"
 *         ? { _tag: notice._tag, name: notice.member.metadata.name }
 *         : undefined
 *   })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <Metadata = void, Value = Message>(
  name: string,
  options: Options<Metadata, Value> = {}
): Room<Metadata, Value> => {
  const { history, notify, stamp } = options
  // A codec that does not do this at once is a mistake, like one that fails, and thrown to who asks.
  const now = Effect.runSync
  const { decode, encode } = options.message ?? messages as unknown as MessageCodec<Value>
  return {
    name,
    metadata: metadataCodec(options.member ?? Schema.Void as unknown as Schema.Codec<Metadata>),
    encode,
    history: history && { messages: history.messages, age: Duration.fromInputUnsafe(history.age ?? "1 hour") },
    overflow: options.overflow ?? { close: 1013 },
    stamp: stamp && ((message, position) => now(encode(stamp(now(decode(message)), position)))),
    notify: notify && ((notice) => {
      const value = notify(notice)
      return value === undefined ? undefined : now(encode(value))
    }),
    [Equal.symbol]: (that) => hasName(that) && that.name === name,
    [Hash.symbol]: () => Hash.string(name)
  }
}

const messages: MessageCodec<Message> = {
  decode: Effect.succeed,
  encode: Effect.succeed,
  prepare: (message) => Effect.succeed(prepare(message))
}

const hasName = (that: Equal.Equal): that is Equal.Equal & { readonly name: unknown } => "name" in that

const metadataCodec = <Metadata>(schema: Schema.Codec<Metadata, any>): MetadataCodec<Metadata> => {
  const json = Schema.toCodecJson(schema)
  return { encode: Schema.encodeEffect(json), decode: Schema.decodeUnknownOption(json) }
}
