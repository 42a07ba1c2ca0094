/**
 * What the page and the server say to each other: JSON, checked by schemas.
 */
import { Schema } from "effect"

/** A name as people choose it: 1 to 24 visible characters. */
export const Name = Schema.Trim.check(Schema.isPattern(/^\P{C}{1,24}$/u))

export const Person = Schema.Struct({ id: Schema.Int, name: Schema.String })
export type Person = typeof Person.Type

/** What the page sends. */
export const FromPage = Schema.fromJsonString(
  Schema.TaggedStruct("Say", { text: Schema.Trim.check(Schema.isNonEmpty(), Schema.isMaxLength(500)) })
)

/** What the page receives. Times are milliseconds since 1970. */
export const ToPage = Schema.fromJsonString(Schema.TaggedUnion({
  Welcome: { you: Person, people: Schema.Array(Person) },
  Joined: { person: Person, time: Schema.Int },
  Left: { person: Person, time: Schema.Int },
  Said: { person: Person, text: Schema.String, time: Schema.Int },
  Link: { roundTripMillis: Schema.Finite, queuedMessages: Schema.Int, queuedBytes: Schema.Int }
}))
export type ToPage = typeof ToPage.Type

export const decode = Schema.decodeUnknownEffect(FromPage)
export const encode = Schema.encodeSync(ToPage)
