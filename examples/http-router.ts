/**
 * HTTP and WebSockets on one port: an application of Effect's HttpRouter whose routes share services and middleware.
 *
 *     npx node examples/http-router.ts
 *
 * A client posts notes over HTTP, another follows them over a WebSocket. Both pass the same middleware, which wants to know
 * who they are: who does not say so gets an ordinary 401, whether they ask for a page or for an upgrade.
 */
import { WebSocketClient } from "@effect-ws/core"
import { NodeWebSocketClient } from "@effect-ws/node"
import * as NodeWebSocketRoute from "@effect-ws/node/NodeWebSocketRoute"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Context, Effect, Layer, PubSub, Stream } from "effect"
import {
  FetchHttpClient,
  HttpClient,
  HttpClientRequest,
  HttpRouter,
  HttpServer,
  HttpServerRequest,
  HttpServerResponse
} from "effect/http"
import { createServer } from "node:http"

class Notes extends Context.Service<Notes, PubSub.PubSub<string>>()("examples/Notes") {
  static readonly layer = Layer.effect(Notes, PubSub.unbounded<string>())
}

class User extends Context.Service<User, { readonly name: string }>()("examples/User") {}

const Authentication = HttpRouter.middleware<{ provides: User }>()(
  Effect.succeed((app) =>
    Effect.gen(function*() {
      const { headers } = yield* HttpServerRequest.HttpServerRequest
      const name = headers["x-user"]
      if (name === undefined) return HttpServerResponse.text("who are you?", { status: 401 })
      return yield* Effect.provideService(app, User, { name })
    })
  )
)

const post = Effect.gen(function*() {
  const notes = yield* Notes
  const user = yield* User
  const request = yield* HttpServerRequest.HttpServerRequest
  yield* PubSub.publish(notes, `${user.name} notes: ${yield* Effect.orDie(request.text)}`)
  return HttpServerResponse.empty({ status: 204 })
})

const follow = NodeWebSocketRoute.upgrade(Effect.fnUntraced(function*(connection) {
  const notes = yield* PubSub.subscribe(yield* Notes)
  const user = yield* User
  yield* connection.send(`welcome, ${user.name}`)
  yield* Stream.fromSubscription(notes).pipe(
    Stream.runForEach((note) => connection.send(note)),
    Effect.raceFirst(connection.closed)
  )
}))

const Routes = Layer.mergeAll(
  HttpRouter.add("GET", "/", HttpServerResponse.text("notes are posted and followed at /notes")),
  Layer.mergeAll(
    HttpRouter.add("POST", "/notes", post),
    HttpRouter.add("GET", "/notes", follow)
  ).pipe(Layer.provide(Authentication.layer))
).pipe(HttpRouter.provideRequest(Notes.layer))

const Server = HttpRouter.serve(Routes, { disableListenLog: true, disableLogger: true }).pipe(
  Layer.provideMerge(NodeWebSocketRoute.layerHttpServer(createServer, { host: "127.0.0.1", port: 0 }))
)

const program = Effect.gen(function*() {
  const { address } = yield* HttpServer.HttpServer
  const host = HttpServer.formatAddress(address).slice("http://".length)
  yield* HttpClient.get(`http://${host}`).pipe(
    Effect.flatMap((response) => response.text),
    Effect.flatMap((text) => Console.log(`GET /: ${text}`))
  )

  const follower = yield* WebSocketClient.connect(`ws://${host}/notes`, { headers: { "x-user": "Grace" } })
  yield* Console.log(`a message: ${yield* follower.receive}`)
  const { status } = yield* HttpClientRequest.post(`http://${host}/notes`).pipe(
    HttpClientRequest.setHeader("x-user", "Ada"),
    HttpClientRequest.bodyText("it works"),
    HttpClient.execute
  )
  yield* Console.log(`POST /notes: ${status}`)
  yield* Console.log(`a message: ${yield* follower.receive}`)

  const error = yield* Effect.flip(WebSocketClient.connect(`ws://${host}/notes`))
  yield* Console.log(
    error.reason._tag === "UpgradeRejected"
      ? `rejected with ${error.reason.status}: ${error.reason.body}`
      : error.message
  )
})

program.pipe(
  Effect.scoped,
  Effect.provide([Server, NodeWebSocketClient.layer, FetchHttpClient.layer]),
  NodeRuntime.runMain
)
