/**
 * What the page and the server say to each other: JSON, checked by schemas. Both import this file.
 */
// From modules of their own, as the page loads whatever is imported here.
import * as MessageCodec from "@effect-ws/core/MessageCodec"
import * as Room from "@effect-ws/core/Room"
import * as Schema from "effect/Schema"

/** A name as people choose it: 1 to 24 visible characters. */
export const Name = Schema.Trim.check(Schema.isPattern(/^\P{C}{1,24}$/u))

/** Somebody, by an id of their own choice: names need not be distinct, and a page that comes back is the same person. */
export const Person = Schema.Struct({ id: Schema.String.check(Schema.isPattern(/^\w{1,32}$/)), name: Name })
export type Person = typeof Person.Type

/** How a page introduces itself, in the query of the URL; one that comes back says what it saw last. */
export const Arrival = Schema.Struct({
  ...Person.fields,
  seen: Schema.optionalKey(Schema.fromJsonString(Room.Position))
})

/** What the page sends. */
export const FromPage = Schema.TaggedStruct("Say", {
  text: Schema.Trim.check(Schema.isNonEmpty(), Schema.isMaxLength(500))
})
export type FromPage = typeof FromPage.Type

const Member = Schema.Struct({ id: Schema.String, metadata: Person })

/**
 * What the page receives. The first five are the notices of the room: who is in, and that messages are missing. Somebody
 * with two tabs is two members. What is said gets its position from the room. Times are in milliseconds since 1970.
 */
export const ToPage = Schema.TaggedUnion({
  Snapshot: { members: Schema.Array(Member) },
  Joined: { member: Member },
  Updated: { member: Member },
  Left: { member: Member },
  Gap: {},
  Said: { by: Person, text: Schema.String, time: Schema.Int, position: Schema.optionalKey(Room.Position) },
  NotSent: { text: Schema.String },
  Link: { process: Schema.Int, roundTripMillis: Schema.Finite, queuedBytes: Schema.Int }
})
export type ToPage = typeof ToPage.Type

/** The server's side. */
export const server = { incoming: MessageCodec.json(FromPage), outgoing: MessageCodec.json(ToPage) }

/** The page's side. It skips what a newer server may say. */
export const page = { incoming: server.outgoing, outgoing: server.incoming, undecodable: "skip" } as const
