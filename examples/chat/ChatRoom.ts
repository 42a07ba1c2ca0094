/**
 * Who is in the room, and what is said there.
 */
import { type Connection, WebSocketServer } from "@effect-ws/core"
import type { SendError } from "@effect-ws/core/WebSocketError"
import { Clock, Context, Effect, Exit, Iterable, Layer, type Scope } from "effect"
import { encode, type Person, type ToPage } from "./Protocol.ts"

export class ChatRoom extends Context.Service<ChatRoom, {
  /** Lets somebody in, until the scope closes. Who has the name of another gets a number behind it. */
  readonly join: (
    connection: Connection.Connection,
    name: string
  ) => Effect.Effect<Person, SendError, Scope.Scope>
  readonly say: (person: Person, text: string) => Effect.Effect<void>
}>()("chat/ChatRoom") {
  static readonly layer = Layer.effect(
    ChatRoom,
    Effect.gen(function*() {
      const server = yield* WebSocketServer.WebSocketServer
      const people = new Map<number, Person>()
      let lastId = 0

      // Encoded once for all. It never waits for a slow page: see `overflow` in main.ts.
      const announce = (event: ToPage) => server.broadcast(encode(event))

      const distinct = (name: string, count = 1): string => {
        const candidate = count === 1 ? name : `${name} ${count}`
        const isTaken = Iterable.some(
          people.values(),
          (person) => person.name.toLowerCase() === candidate.toLowerCase()
        )
        return isTaken ? distinct(name, count + 1) : candidate
      }

      const enter = (name: string): Person => {
        const person = { id: ++lastId, name: distinct(name) }
        people.set(person.id, person)
        return person
      }

      const leave = Effect.fnUntraced(function*(person: Person, exit: Exit.Exit<unknown, unknown>) {
        people.delete(person.id)
        // Interrupted means that the server shuts down. Then all leave, and each page is told by close code 1001.
        if (Exit.hasInterrupts(exit)) return
        yield* announce({ _tag: "Left", person, time: yield* Clock.currentTimeMillis })
      })

      return ChatRoom.of({
        join: Effect.fnUntraced(function*(connection, name) {
          const person = yield* Effect.acquireRelease(Effect.sync(() => enter(name)), leave)
          yield* connection.send(encode({ _tag: "Welcome", you: person, people: [...people.values()] }))
          yield* announce({ _tag: "Joined", person, time: yield* Clock.currentTimeMillis })
          return person
        }),
        say: Effect.fnUntraced(function*(person, text) {
          yield* announce({ _tag: "Said", person, text, time: yield* Clock.currentTimeMillis })
        })
      })
    })
  )
}
