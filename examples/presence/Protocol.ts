/**
 * What clients and the server say to each other: JSON, checked by schemas.
 */
import { MessageCodec } from "@effect-ws/core"
import { Schema } from "effect"

export const Status = Schema.Literals(["here", "away"])
export type Status = typeof Status.Type

/** Somebody, as the others see them. */
export const Person = Schema.Struct({ name: Schema.NonEmptyString, status: Status })
export type Person = typeof Person.Type

/** What a client sends. */
export const FromClient = Schema.TaggedUnion({
  Say: { text: Schema.NonEmptyString },
  Be: { status: Status }
})
export type FromClient = typeof FromClient.Type

/** What a client receives. */
export const ToClient = Schema.TaggedUnion({
  Welcome: { people: Schema.Array(Person) },
  Joined: { name: Schema.String },
  Left: { name: Schema.String },
  Said: { name: Schema.String, text: Schema.String },
  Is: { name: Schema.String, status: Status }
})
export type ToClient = typeof ToClient.Type

/** The server's side. */
export const protocol = { incoming: MessageCodec.json(FromClient), outgoing: MessageCodec.json(ToClient) }
