import {
  type Connection,
  type HandshakeRequest,
  WebSocketClient,
  type WebSocketError,
  WebSocketServer
} from "@effect-ws/core"
import { Context, Effect, type Layer, type Scope } from "effect"
import { expectTypeOf } from "vitest"

class Database extends Context.Service<Database, { readonly find: Effect.Effect<string> }>()("Database") {}
class Auth extends Context.Service<Auth, { readonly check: Effect.Effect<string> }>()("Auth") {}

// A handler needs the server and what it asks for; its scope is the connection's.
const plain = WebSocketServer.serve((connection) =>
  Effect.gen(function*() {
    yield* Effect.addFinalizer(() => Effect.void)
    const database = yield* Database
    yield* connection.send(yield* database.find)
  })
)
expectTypeOf(plain).toEqualTypeOf<Layer.Layer<never, never, WebSocketServer.WebSocketServer | Database>>()

// It may be an Effect function, which then knows its parameter.
const generated = WebSocketServer.serve(
  Effect.fn("handler")(function*(connection) {
    expectTypeOf(connection).toEqualTypeOf<Connection.Connection>()
    yield* connection.send(yield* Database.use((database) => database.find))
  })
)
expectTypeOf(generated).toEqualTypeOf<Layer.Layer<never, never, WebSocketServer.WebSocketServer | Database>>()

// The data of the hook is the handler's, and its requirements are the layer's.
const authenticated = WebSocketServer.serve(
  (_connection, user) => Effect.sync(() => expectTypeOf(user).toEqualTypeOf<{ readonly id: string }>()),
  {
    handshake: (_request: HandshakeRequest.HandshakeRequest) =>
      Auth.use((auth) => Effect.map(auth.check, (id): { data: { readonly id: string } } => ({ data: { id } })))
  }
)
expectTypeOf(authenticated).toEqualTypeOf<Layer.Layer<never, never, WebSocketServer.WebSocketServer | Auth>>()

void WebSocketServer.serve(() => Effect.void, {
  // @ts-expect-error: a hook rejects with HandshakeRejected, nothing else
  // @effect-diagnostics-next-line missingEffectError:off
  handshake: (_request: HandshakeRequest.HandshakeRequest) => Effect.fail("no")
})

// A client needs the service and a scope.
expectTypeOf(WebSocketClient.connect("ws://localhost")).toEqualTypeOf<
  Effect.Effect<
    Connection.Connection,
    WebSocketError.ConnectError,
    WebSocketClient.WebSocketClient | Scope.Scope
  >
>()
