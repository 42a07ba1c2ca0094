/**
 * The opening handshake: who may connect, decided by cookie, query or header.
 *
 *     npx node examples/headers-and-cookies.ts
 *
 * The server's hook sees the request and accepts it, with data for the handler and headers for the response, or rejects it
 * with an HTTP response. Three clients show their token in three ways and are welcomed by name; one shows none, and gets
 * the rejection as a typed error.
 */
import { HandshakeRequest, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer } from "effect"

const users = new Map([["t1", "Ada"], ["t2", "Grace"], ["t3", "Edsger"]])

const authenticate = Effect.fn("authenticate")(
  function*({ cookies, headers, query }: HandshakeRequest.HandshakeRequest) {
    const token = cookies["token"] ?? query.get("token") ?? headers["x-token"] ?? ""
    const name = users.get(token)
    if (name === undefined) {
      return yield* new HandshakeRequest.HandshakeRejected({
        status: 401,
        headers: { "www-authenticate": "Bearer" },
        body: "who are you?"
      })
    }
    return { data: { name }, headers: { "set-cookie": `token=${token}; HttpOnly` } }
  }
)

const Server = WebSocketServer.serve(
  (connection, { name }) => connection.send(`welcome, ${name}`),
  { handshake: authenticate }
).pipe(Layer.provideMerge(NodeWebSocketServer.layer({ port: 0 })))

const url = WebSocketServer.WebSocketServer.useSync((server) => server.url)

const visit = Effect.fn("visit")(
  function*(path: string, headers: Record<string, string>) {
    const connection = yield* WebSocketClient.connect(`${yield* url}${path}`, { headers })
    yield* Console.log(`${yield* connection.receive}; cookie set: ${connection.response.headers["set-cookie"]}`)
  },
  Effect.scoped
)

const program = Effect.gen(function*() {
  yield* visit("/", { cookie: "theme=dark; token=t1" })
  yield* visit("/?token=t2", {})
  yield* visit("/", { "x-token": "t3" })

  yield* visit("/", {}).pipe(
    Effect.andThen(Effect.die("nobody should be let in without a token")),
    Effect.catchReason(
      "ConnectError",
      "UpgradeRejected",
      ({ body, headers, status }) =>
        Console.log(`rejected with ${status} (www-authenticate: ${headers["www-authenticate"]}): ${body}`)
    )
  )
})

program.pipe(
  Effect.provide([Server, NodeWebSocketClient.layer]),
  NodeRuntime.runMain
)
