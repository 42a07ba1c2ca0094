import { assert, describe, it } from "@effect/vitest"
import { WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { Effect, Layer, Stream } from "effect"

const Server = WebSocketServer.serve((connection) =>
  Stream.runForEach(connection.messages, (message) => connection.send(message))
).pipe(Layer.provideMerge(NodeWebSocketServer.layer({ port: 0 })))

describe("node", () => {
  it.live("echo", () =>
    Effect.gen(function*() {
      const server = yield* WebSocketServer.WebSocketServer
      const { address } = server
      if (address._tag !== "Tcp") return
      const event = yield* Effect.scoped(Effect.gen(function*() {
        const connection = yield* WebSocketClient.connect(`ws://127.0.0.1:${address.port}/x`)
        yield* connection.send("hello")
        assert.strictEqual(yield* connection.receive, "hello")
        yield* connection.send(new Uint8Array(1_000_000).fill(7))
        const big = yield* connection.receive
        assert.strictEqual(big.length, 1_000_000)
        console.log(yield* connection.ping)
        yield* connection.close(4000, "bye")
        return yield* connection.closed
      }))
      console.log(event)
    }).pipe(Effect.provide([Server, NodeWebSocketClient.layer])))
})
