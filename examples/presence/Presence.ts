/**
 * A chat that knows who is here: people join, talk, go away, come back and leave, and all others are told.
 *
 * Nothing in this file knows where it runs: `main.ts` runs it on Node, `Presence.test.ts` over a network in memory.
 */
import { HandshakeRequest, Room, Rooms, type ServerRuntime, TypedConnection } from "@effect-ws/core"
import { Effect, Layer, Option } from "effect"
import * as Protocol from "./Protocol.ts"

/** Who does not keep up is closed rather than waited for: that is what a room does unless it is told otherwise. */
export const serverOptions: ServerRuntime.ServerOptions = { maxMessageBytes: 4096, maxQueuedBytes: 16 * 1024 }

/** After so long without a word, a person is away. */
export const awayAfter = "5 minutes"

// What people are told about each other.
const noticeOf = (notice: Room.Notice<Protocol.Person>): Protocol.ToClient | undefined => {
  switch (notice._tag) {
    case "Snapshot":
      return { _tag: "Welcome", people: notice.members.map(({ metadata }) => metadata) }
    case "Joined":
    case "Left":
      return { _tag: notice._tag, name: notice.member.metadata.name }
    case "Updated":
      return { _tag: "Is", ...notice.member.metadata }
    case "Gap":
      // Only where a room spans processes.
      return undefined
  }
}

const lobby = Room.make("lobby", {
  member: Protocol.Person,
  message: Protocol.protocol.outgoing,
  notify: noticeOf
})

// The handshake decides who may come in: everybody with a name that nobody else has.
const chooseName = Effect.fnUntraced(function*(request: HandshakeRequest.HandshakeRequest) {
  const rooms = yield* Rooms.Rooms
  const name = request.query.get("name") ?? ""
  if (name === "") return yield* new HandshakeRequest.HandshakeRejected({ status: 400, body: "who are you?" })
  const people = yield* Effect.orDie(rooms.members(lobby))
  if (people.some(({ metadata }) => metadata.name === name)) {
    return yield* new HandshakeRequest.HandshakeRejected({ status: 409, body: "the name is taken" })
  }
  return { data: name }
})

// Runs once for each person, in the scope of the connection: when that ends, so does this, and the person has left.
const converse = Effect.fnUntraced(function*(
  client: TypedConnection.TypedConnection<Protocol.FromClient, Protocol.ToClient>,
  name: string
) {
  const rooms = yield* Rooms.Rooms
  let status: Protocol.Status = "here"
  const membership = yield* rooms.join(lobby, client.connection, { metadata: { name, status } })
  const be = (now: Protocol.Status) =>
    Effect.suspend(() => now === status ? Effect.void : membership.update({ name, status: status = now }))
  while (true) {
    const received = Option.getOrUndefined(yield* Effect.timeoutOption(client.receive, awayAfter))
    switch (received?._tag) {
      case undefined:
        yield* be("away")
        break
      case "Be":
        yield* be(received.status)
        break
      case "Say":
        yield* be("here")
        yield* rooms.publish(lobby, { _tag: "Said", name, text: received.text })
    }
  }
})

/** The application: all it needs is a `WebSocketServer`. */
export const Presence = TypedConnection.serve(Protocol.protocol, converse, { path: "/presence", handshake: chooseName })
  .pipe(Layer.provide(Rooms.layerMemory))
