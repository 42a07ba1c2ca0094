import { type Room, TypedConnection } from "@effect-ws/core"
import { Effect, Schema } from "effect"
import { fileURLToPath } from "node:url"
import * as Protocol from "../../../examples/chat/Protocol.ts"
import * as Example from "./exampleProcess.ts"

export const main = fileURLToPath(new URL("../../../examples/chat/main.ts", import.meta.url))

/** What `npm start` runs, on a free port unless it is given one; killed with the scope. */
export const start = (...args: ReadonlyArray<string>) =>
  Effect.map(
    Example.start("chat/main.ts", ...(args.includes("--port") ? args : ["--port", "0", ...args])),
    (example) => ({
      ...example,
      port: new URL(example.url).port,
      urlFor: (person: Arrival) =>
        `${example.url.replace("http:", "ws:")}/chat?${new URLSearchParams(encodeArrival(person))}`
    })
  )

export type Chat = Effect.Success<ReturnType<typeof start>>

type Arrival = typeof Protocol.Arrival.Type

const encodeArrival = Schema.encodeSync(Protocol.Arrival)

/** A page of somebody, as far as the server is concerned. */
export const join = (chat: Chat, name: string, seen?: Room.Position) => {
  const person = { id: name.toLowerCase(), name }
  return TypedConnection.connect(Protocol.page, chat.urlFor(seen === undefined ? person : { ...person, seen }))
}

export interface Receiving<E> {
  readonly receive: Effect.Effect<Protocol.ToPage, E>
}

/** The next event of a kind that a page receives; those before it are not of interest. */
export const next = Effect.fnUntraced(function*<Tag extends Protocol.ToPage["_tag"], E>(page: Receiving<E>, tag: Tag) {
  while (true) {
    const event = yield* page.receive
    if (isOf(event, tag)) return event
  }
})

/** The next things that are said. */
export const hear = <E>(page: Receiving<E>, count: number) => Effect.replicateEffect(next(page, "Said"), count)

const isOf = <Tag extends Protocol.ToPage["_tag"]>(
  event: Protocol.ToPage,
  tag: Tag
): event is Extract<Protocol.ToPage, { readonly _tag: Tag }> => event._tag === tag
