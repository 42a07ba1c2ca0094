import type { HandshakeRequest } from "@effect-ws/core"
import * as NodeWebSocketRoute from "@effect-ws/node/NodeWebSocketRoute"
import { NodeHttpServer } from "@effect/platform-node"
import { Context, Effect, Layer } from "effect"
import { HttpRouter, type HttpServerRequest } from "effect/http"
import { createServer } from "node:http"
import { expectTypeOf } from "vitest"

class Service extends Context.Service<Service, string>()("typetest/Service") {}
class HookService extends Context.Service<HookService, string>()("typetest/HookService") {}

const hook = (_request: HandshakeRequest.HandshakeRequest) => Effect.map(HookService, (name) => ({ data: { name } }))

// What handler and hook need is what the route needs; the handler's scope is that of the connection.
const route = NodeWebSocketRoute.upgrade(
  (connection, data) => {
    expectTypeOf(data).toEqualTypeOf<{ name: string }>()
    return Effect.andThen(Effect.addFinalizer(() => Effect.void), Effect.andThen(Service, connection.closed))
  },
  { handshake: hook }
)
expectTypeOf<Effect.Services<typeof route>>().toEqualTypeOf<
  NodeWebSocketRoute.WebSocketUpgrades | HttpServerRequest.HttpServerRequest | Service | HookService
>()
expectTypeOf<Effect.Error<typeof route>>().toEqualTypeOf<never>()

// Without a hook, there is no data.
export const plain = NodeWebSocketRoute.upgrade((connection, ...data) => {
  expectTypeOf(data).toEqualTypeOf<[]>()
  return connection.closed
})

// The path is the router's.
// @ts-expect-error
export const elsewhere = NodeWebSocketRoute.upgrade((connection) => connection.closed, { path: "/elsewhere" })

// An application with such a route is served by an HTTP server that keeps what a WebSocket needs, and by no other.
const app = HttpRouter.serve(HttpRouter.add("GET", "/", NodeWebSocketRoute.upgrade((connection) => connection.closed)))
const served = Layer.provide(app, NodeWebSocketRoute.layerHttpServer(createServer, { port: 0 }))
expectTypeOf<Layer.Services<typeof served>>().toEqualTypeOf<never>()
const unserved = Layer.provide(app, NodeHttpServer.layer(createServer, { port: 0 }))
expectTypeOf<Layer.Services<typeof unserved>>().toEqualTypeOf<NodeWebSocketRoute.WebSocketUpgrades>()
