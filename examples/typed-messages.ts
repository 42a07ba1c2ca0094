/**
 * Messages that are values: what may be said is a schema, and nothing else gets through.
 *
 *     npx node examples/typed-messages.ts
 *
 * A bank account over WebSocket, once in JSON and once in MessagePack. The client and the server share the protocol; a
 * third party that does not keep to it is told what was wrong, or closed.
 */
import { MessageCodec, TypedConnection, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { MessagePack } from "@effect-ws/msgpack"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Ref, Schema, Stream } from "effect"

const Amount = Schema.Int.check(Schema.isGreaterThan(0))

const Order = Schema.TaggedUnion({
  Deposit: { amount: Amount, at: Schema.Date },
  Withdraw: { amount: Amount, at: Schema.Date },
  Leave: {}
})

const Statement = Schema.TaggedUnion({
  Balance: { balance: Schema.Int },
  Refused: { why: Schema.String }
})

// The same schemas in two formats. What one side calls incoming is outgoing for the other.
const formats = {
  json: { orders: MessageCodec.json(Order), statements: MessageCodec.json(Statement) },
  msgpack: { orders: MessagePack.codec(Order), statements: MessagePack.codec(Statement) }
}
type Format = keyof typeof formats

const account = (format: Format) => {
  const { orders, statements } = formats[format]
  return TypedConnection.serve({ incoming: orders, outgoing: statements }, (client) =>
    Effect.gen(function*() {
      const balance = yield* Ref.make(0)
      const book = Effect.fnUntraced(function*(amount: number) {
        yield* client.send({ _tag: "Balance", balance: yield* Ref.updateAndGet(balance, (sum) => sum + amount) })
      })
      // Every kind of order has its case, or this does not compile.
      const execute = Order.match({
        Deposit: ({ amount }) => book(amount),
        Withdraw: Effect.fnUntraced(function*({ amount }) {
          if (amount <= (yield* Ref.get(balance))) return yield* book(-amount)
          yield* client.send({ _tag: "Refused", why: "not enough money" })
        }),
        Leave: () => client.connection.close(1000, "goodbye")
      })
      const next = Effect.flatMap(client.receive, execute).pipe(
        // An order that makes no sense is refused. A message of the wrong type or format closes the connection.
        Effect.catchReason("DecodeError", "Mismatch", ({ detail }) =>
          client.send({ _tag: "Refused", why: detail.replaceAll(/\s+/g, " ") }))
      )
      return yield* Effect.forever(next)
    }), { path: `/${format}` })
}

const Bank = Layer.mergeAll(account("json"), account("msgpack")).pipe(
  Layer.provideMerge(NodeWebSocketServer.layer({ port: 0 }))
)

const visit = Effect.fn("visit")(function*(url: string, format: Format) {
  const { orders, statements } = formats[format]
  const bank = yield* TypedConnection.connect({ incoming: statements, outgoing: orders }, `${url}/${format}`)
  const at = new Date(2026, 0, 1)
  yield* bank.sendAll([
    { _tag: "Deposit", amount: 100, at },
    { _tag: "Withdraw", amount: 30, at },
    { _tag: "Withdraw", amount: 1000, at }
  ])
  const say = Statement.match({
    Balance: ({ balance }) => `balance ${balance}`,
    Refused: ({ why }) => `refused, ${why}`
  })
  yield* bank.messages.pipe(
    Stream.take(3),
    Stream.runForEach((statement) => Console.log(`${format}: ${say(statement)}`))
  )
  const error = yield* Effect.flip(bank.send({ _tag: "Deposit", amount: -1, at }))
  yield* Console.log(`${format}: not sent, ${error._tag}`)
  yield* bank.send({ _tag: "Leave" })
  const { code, reason } = yield* bank.connection.closed
  yield* Console.log(`${format}: closed with ${code} ${reason}`)
}, Effect.scoped)

const intrude = Effect.fn("intrude")(function*(url: string, message: string) {
  const connection = yield* WebSocketClient.connect(url)
  yield* connection.send(message)
  yield* connection.messages.pipe(
    Stream.take(1),
    Stream.runForEach((answer) => Console.log(`to ${message}: ${answer}`)),
    Effect.catchReason(
      "ConnectionError",
      "PeerClosed",
      (_, { closeEvent }) => Console.log(`to ${message}: closed with ${closeEvent.code} ${closeEvent.reason}`)
    )
  )
}, Effect.scoped)

const program = Effect.gen(function*() {
  const { url } = yield* WebSocketServer.WebSocketServer
  yield* visit(url, "json")
  yield* visit(url, "msgpack")
  yield* intrude(`${url}/json`, `{"_tag":"Deposit","amount":"much"}`)
  yield* intrude(`${url}/json`, "give me money")
  yield* intrude(`${url}/msgpack`, "give me money")
})

program.pipe(
  Effect.provide([Bank, NodeWebSocketClient.layer]),
  NodeRuntime.runMain
)
