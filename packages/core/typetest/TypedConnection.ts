import {
  type Connection,
  type HandshakeRequest,
  MessageCodec,
  TypedConnection,
  type WebSocketClient,
  type WebSocketError,
  type WebSocketServer
} from "@effect-ws/core"
import { type Cause, Context, Effect, type Layer, Schema, SchemaGetter, type Scope, type Stream } from "effect"
import { expectTypeOf } from "vitest"

class Reader extends Context.Service<Reader, { readonly read: (text: string) => Effect.Effect<number> }>()("Reader") {}
class Writer
  extends Context.Service<Writer, { readonly write: (value: number) => Effect.Effect<string> }>()("Writer")
{}

const Question = MessageCodec.json(Schema.Struct({ add: Schema.Array(Schema.Finite), at: Schema.Date }))
const Answer = MessageCodec.json(Schema.TaggedUnion({ Sum: { sum: Schema.Finite }, Unclear: { why: Schema.String } }))
const Spoken = MessageCodec.json(Schema.String.pipe(Schema.decodeTo(Schema.Finite, {
  decode: SchemaGetter.transformEffect((text: string) => Reader.use(({ read }) => read(text))),
  encode: SchemaGetter.transformEffect((value: number) => Writer.use(({ write }) => write(value)))
})))

type Question = { readonly add: ReadonlyArray<number>; readonly at: Date }
type Answer = { readonly _tag: "Sum"; readonly sum: number } | { readonly _tag: "Unclear"; readonly why: string }

// A codec knows what its schema needs, in each direction.
expectTypeOf<Effect.Success<ReturnType<typeof Question.decode>>>().toEqualTypeOf<Question>()
expectTypeOf<Parameters<typeof Answer.encode>>().toEqualTypeOf<[value: Answer]>()
expectTypeOf(Question.decode).returns.toEqualTypeOf<Effect.Effect<Question, WebSocketError.DecodeError>>()
expectTypeOf<Effect.Services<ReturnType<typeof Spoken.decode>>>().toEqualTypeOf<Reader>()
expectTypeOf<Effect.Services<ReturnType<typeof Spoken.encode>>>().toEqualTypeOf<Writer>()
expectTypeOf<Effect.Error<ReturnType<typeof Spoken.encode>>>().toEqualTypeOf<WebSocketError.EncodeError>()

// A view needs only what its directions need.
declare const connection: Connection.Connection
const spoken = TypedConnection.make(connection, { incoming: Spoken, outgoing: Answer })
expectTypeOf(spoken.messages).toEqualTypeOf<
  Stream.Stream<number, WebSocketError.ConnectionError | WebSocketError.DecodeError, Reader>
>()
expectTypeOf<Effect.Error<typeof spoken.receive>>().toEqualTypeOf<
  WebSocketError.ConnectionError | WebSocketError.DecodeError | Cause.Done<void>
>()
expectTypeOf<ReturnType<typeof spoken.send>>().toEqualTypeOf<
  Effect.Effect<void, WebSocketError.SendError | WebSocketError.EncodeError>
>()
expectTypeOf(spoken.connection).toEqualTypeOf(connection)
// @ts-expect-error: there is no such answer
void spoken.send({ _tag: "Product", product: 1 })
// @ts-expect-error: values are sent, not messages
void spoken.send("text")

// The other side has the directions exchanged.
const asking = TypedConnection.connect({ incoming: Answer, outgoing: Spoken }, "ws://localhost")
expectTypeOf<Effect.Services<typeof asking>>().toEqualTypeOf<WebSocketClient.WebSocketClient | Scope.Scope>()
expectTypeOf<Effect.Success<typeof asking>>().toEqualTypeOf<
  TypedConnection.TypedConnection<Answer, number, never, Writer>
>()

// What the schemas need, the server's layer needs; the scope of the connection is there.
const Serving = TypedConnection.serve({ incoming: Spoken, outgoing: Spoken }, (client) =>
  Effect.gen(function*() {
    yield* Effect.addFinalizer(() => Effect.void)
    yield* client.send(yield* client.receive)
  }))
expectTypeOf(Serving).toEqualTypeOf<Layer.Layer<never, never, WebSocketServer.WebSocketServer | Reader | Writer>>()

// The handler gets the hook's data.
declare const hook: (request: HandshakeRequest.HandshakeRequest) => Effect.Effect<{ readonly data: { name: string } }>
void TypedConnection.serve({ incoming: Question, outgoing: Answer }, (_client, { name }) => Effect.log(name), {
  handshake: hook
})
// @ts-expect-error: there is no such data
void TypedConnection.serve({ incoming: Question, outgoing: Answer }, (_client, { age }) => Effect.log(age), {
  handshake: hook
})

// A union is taken apart by its own match; each case may be another effect.
const Command = Schema.TaggedUnion({ Say: { text: Schema.String }, Leave: {} })
const handled = Command.match({
  Say: ({ text }) => spoken.send({ _tag: "Unclear", why: text }),
  Leave: () => connection.close()
})
expectTypeOf<Effect.Error<ReturnType<typeof handled>>>().toEqualTypeOf<
  WebSocketError.SendError | WebSocketError.EncodeError | WebSocketError.CloseError
>()
