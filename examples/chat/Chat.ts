/**
 * The chat: one room that remembers what was said, and the pages that are in it. It does not know in how many processes it
 * runs; that is up to the `Rooms` it is given.
 */
import { HandshakeRequest, Room, Rooms, TypedConnection } from "@effect-ws/core"
import { Clock, Duration, Effect, Schedule, Schema, Stream } from "effect"
import * as Protocol from "./Protocol.ts"

// A page that does not keep up is closed with 1013, comes back, and is given what it has missed.
const lobby = Room.make("lobby", {
  member: Protocol.Person,
  message: Protocol.server.outgoing,
  history: { messages: 200, age: "1 day" },
  stamp: (event, position) => event._tag === "Said" ? { ...event, position } : event,
  notify: (notice) => notice
})

/** The server's end of a connection to a page. */
type Page = TypedConnection.TypedConnection<Protocol.FromPage, Protocol.ToPage>

type Arrival = typeof Protocol.Arrival.Type

// The handshake decides who may connect, and what the handler below gets as its data.
const introduce = (request: HandshakeRequest.HandshakeRequest) =>
  Schema.decodeUnknownEffect(Protocol.Arrival)(Object.fromEntries(request.query)).pipe(
    Effect.map((arrival) => ({ data: arrival })),
    Effect.mapError(() => new HandshakeRequest.HandshakeRejected({ status: 400, body: "who are you?" }))
  )

// Runs once for each connection, in the connection's scope: when it returns, the connection is closed and has left the
// room, and when the connection ends, so do its messages.
const converse = Effect.fnUntraced(function*(page: Page, { seen, ...person }: Arrival) {
  yield* enter(page, person, seen)
  yield* Effect.forkScoped(Effect.ignore(reportLink(page)))
  yield* Stream.runForEach(page.messages, ({ text }) =>
    say(person, text).pipe(
      Effect.catchReason("RoomError", "BrokerUnavailable", () => page.send({ _tag: "NotSent", text })),
      // Nothing is read in the meantime, so whoever sends faster than ten messages a second is held back by TCP.
      Effect.andThen(Effect.sleep("100 millis"))
    ))
}, (conversation, { connection }) =>
  // The page comes back in a while.
  Effect.catchReasons(conversation, "RoomError", {
    BrokerUnavailable: () => connection.close(1013, "the room is out of reach"),
    // What the page missed was forgotten before it was sent: it reads slower than is said.
    InsufficientHistory: () => connection.close(1013, "the room goes on too fast")
  }))

// Gives a page all that was said since it was here, or as much of it as is still known.
const enter = Effect.fnUntraced(function*(page: Page, metadata: Protocol.Person, seen: Room.Position | undefined) {
  const rooms = yield* Rooms.Rooms
  const join = (from: Room.Position | "oldest") => rooms.join(lobby, page.connection, { metadata, from })
  yield* Effect.catchReason(
    join(seen ?? "oldest"),
    "RoomError",
    "InsufficientHistory",
    () => Effect.andThen(page.send({ _tag: "Gap" }), join("oldest"))
  )
})

const say = Effect.fnUntraced(function*(by: Protocol.Person, text: string) {
  const rooms = yield* Rooms.Rooms
  yield* rooms.publish(lobby, { _tag: "Said", by, text, time: yield* Clock.currentTimeMillis })
})

// Tells a page how its own connection does, and by that, that it is alive.
const reportLink = (page: Page) =>
  Effect.gen(function*() {
    const roundTripMillis = Duration.toMillis(yield* page.connection.ping)
    const queuedBytes = yield* page.connection.queuedBytes
    yield* page.send({ _tag: "Link", process: process.pid, roundTripMillis, queuedBytes })
  }).pipe(Effect.repeat(Schedule.spaced("1 second")))

/** The chat: needs a `WebSocketServer` and `Rooms`. */
export const Chat = TypedConnection.serve(Protocol.server, converse, { path: "/chat", handshake: introduce })
