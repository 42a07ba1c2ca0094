import type { Attachment, CloseEvent, Connection, Message, WebSocketError } from "@effect-ws/core"
import { type Cause, Effect, type Option, type Scope, Stream } from "effect"
import { expectTypeOf } from "vitest"

declare const connection: Connection.Connection

// Messages are strings or bytes, and reading fails with the ending.
expectTypeOf(connection.messages).toEqualTypeOf<Stream.Stream<Message.Message, WebSocketError.ConnectionError>>()
expectTypeOf<Effect.Success<typeof connection.receive>>().toEqualTypeOf<string | Uint8Array>()
expectTypeOf<Effect.Error<typeof connection.receive>>().toEqualTypeOf<
  WebSocketError.ConnectionError | Cause.Done<void>
>()

// Sending and closing have errors of their own.
expectTypeOf<Effect.Error<ReturnType<typeof connection.send>>>().toEqualTypeOf<WebSocketError.SendError>()
expectTypeOf<Effect.Error<ReturnType<typeof connection.close>>>().toEqualTypeOf<WebSocketError.CloseError>()
expectTypeOf(connection.abort).toEqualTypeOf<Effect.Effect<void>>()
expectTypeOf(connection.closed).toEqualTypeOf<Effect.Effect<CloseEvent.CloseEvent>>()

// A streamed message keeps the errors and requirements of its stream.
declare const text: Stream.Stream<string, "broken", Scope.Scope>
declare const bytes: Stream.Stream<Uint8Array>
expectTypeOf(connection.sendStream(text)).toEqualTypeOf<
  Effect.Effect<void, WebSocketError.SendError | "broken", Scope.Scope>
>()
expectTypeOf(connection.sendStream(bytes)).toEqualTypeOf<Effect.Effect<void, WebSocketError.SendError>>()
// @ts-expect-error: one message is text or binary
void connection.sendStream(Stream.make("text", new Uint8Array(1)))
// @ts-expect-error: a message is a string or bytes
void connection.send(1)

// An attachment has the type of its key.
declare const Count: Attachment.Attachment<number>
expectTypeOf(connection.attachment(Count)).toEqualTypeOf<Effect.Effect<Option.Option<number>>>()
// @ts-expect-error: the key is that of a number
void connection.attach(Count, "one")

// Endings are handled by tag.
const handled = Stream.runDrain(connection.messages).pipe(
  Effect.catchReason(
    "ConnectionError",
    "ProtocolError",
    (reason) => Effect.succeed(reason.section),
    () => Effect.succeed("other")
  )
)
expectTypeOf<Effect.Success<typeof handled>>().toEqualTypeOf<void | string>()
expectTypeOf<Effect.Error<typeof handled>>().toEqualTypeOf<never>()
// @ts-expect-error: there is no such reason
void Stream.runDrain(connection.messages).pipe(Effect.catchReason("ConnectionError", "Nope", () => Effect.void))
