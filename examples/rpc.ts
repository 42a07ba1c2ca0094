/**
 * RPC over WebSocket: effect/rpc on both sides, calls and a stream, with the heartbeat and the backpressure of effect-ws.
 *
 *     npx node examples/rpc.ts
 */
import { EffectSocket, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Schema, Stream } from "effect"
import { Rpc, RpcClient, RpcGroup, RpcSerialization, RpcServer } from "effect/rpc"

class NoSuchUser extends Schema.TaggedError<NoSuchUser>("examples/NoSuchUser")("NoSuchUser", { id: Schema.Int }) {}

const Users = RpcGroup.make(
  Rpc.make("find", { payload: { id: Schema.Int }, success: Schema.String, error: NoSuchUser }),
  Rpc.make("count", { payload: { upTo: Schema.Int }, success: Schema.Int, stream: true })
)

const names = ["Ada", "Grace"]

const Handlers = Users.toLayer({
  find: ({ id }) => {
    const name = names[id]
    return name === undefined ? new NoSuchUser({ id }) : Effect.succeed(name)
  },
  count: ({ upTo }) => Stream.range(1, upTo)
})

const Server = RpcServer.layer(Users).pipe(
  Layer.provide([Handlers, RpcServer.layerProtocolSocketServer]),
  Layer.provide([EffectSocket.layerServer({ path: "/rpc" }), RpcSerialization.layerJson]),
  Layer.provideMerge(NodeWebSocketServer.layer({ port: 0 }))
)

// The client connects by itself, and again when the connection was lost.
const Client = WebSocketServer.WebSocketServer.useSync((server) =>
  RpcClient.layerProtocolSocket().pipe(
    Layer.provide([EffectSocket.layer(`${server.url}/rpc`), RpcSerialization.layerJson]),
    Layer.provide(NodeWebSocketClient.layer)
  )
).pipe(Layer.unwrap)

const program = Effect.gen(function*() {
  const users = yield* RpcClient.make(Users)
  yield* Console.log(`found: ${yield* users.find({ id: 1 })}`)
  const error = yield* Effect.flip(users.find({ id: 7 }))
  yield* Console.log(`not found: ${error._tag} ${error._tag === "NoSuchUser" ? error.id : ""}`)
  const sum = yield* Stream.runFold(users.count({ upTo: 10_000 }), () => 0, (sum, n) => sum + n)
  yield* Console.log(`streamed, and added up: ${sum}`)
})

program.pipe(Effect.scoped, Effect.provide(Layer.provideMerge(Client, Server)), NodeRuntime.runMain)
