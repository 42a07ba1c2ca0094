import { type Connection, Reconnect, type WebSocketClient, type WebSocketError } from "@effect-ws/core"
import { type Cause, Effect, type Schedule, type Scope, Stream } from "effect"
import { expectTypeOf } from "vitest"

declare const connection: Reconnect.ReconnectingConnection
declare const plain: Connection.Connection

// What code for a connection uses is there in the same shape; only reading fails in another way.
expectTypeOf(connection.send).toEqualTypeOf<typeof plain.send>()
expectTypeOf(connection.sendAll).toEqualTypeOf<typeof plain.sendAll>()
expectTypeOf(connection.close).toEqualTypeOf<typeof plain.close>()
expectTypeOf<Effect.Success<typeof connection.pull>>().toEqualTypeOf<Effect.Success<typeof plain.pull>>()
expectTypeOf<Effect.Error<typeof connection.pull>>().toEqualTypeOf<WebSocketError.ReconnectError | Cause.Done<void>>()
expectTypeOf<Stream.Error<typeof connection.messages>>().toEqualTypeOf<WebSocketError.ReconnectError>()

// It cannot fail to begin, and needs what its effects need; the scope of those is the connection's.
declare const target: Effect.Effect<Reconnect.Target, "no token", Token | Scope.Scope>
declare const onConnect: Effect.Effect<number, "refused", Login | Scope.Scope>
declare const schedule: Schedule.Schedule<number, Reconnect.Ending, never, Backoff>
declare class Token {
  readonly Identifier: "Token"
}
declare class Login {
  readonly Identifier: "Login"
}
declare class Backoff {
  readonly Identifier: "Backoff"
}
expectTypeOf(Reconnect.connect("ws://test")).toEqualTypeOf<
  Effect.Effect<Reconnect.ReconnectingConnection, never, WebSocketClient.WebSocketClient | Scope.Scope>
>()
expectTypeOf(Reconnect.connect(target, { onConnect: () => onConnect, schedule })).toEqualTypeOf<
  Effect.Effect<
    Reconnect.ReconnectingConnection,
    never,
    | WebSocketClient.WebSocketClient
    | Scope.Scope
    | Token
    | Login
    | Backoff
  >
>()

// A slow server is not left for another connection.
// @ts-expect-error: there is no policy that closes
void Reconnect.connect("ws://test", { overflow: { close: 1013 } })

// The end is handled by tag.
const handled = Stream.runDrain(connection.messages).pipe(
  Effect.catchReasons("ReconnectError", {
    ConnectError: ({ reason }) => Effect.succeed(reason._tag),
    ConnectionEnded: ({ closeEvent }) => Effect.succeed(closeEvent.code),
    AttemptFailed: ({ step }) => Effect.succeed(step)
  })
)
expectTypeOf<Effect.Success<typeof handled>>().toExtend<string | number | void>()
