/**
 * A client whose way out is a proxy, which wants a user name and a password; and a server that sends it elsewhere.
 *
 *     npx node examples/outbound-proxy.ts
 *
 * The proxy tells what it is asked for: a tunnel for each request, that of a redirect too. A client with the wrong password
 * gets a typed error. What the environment says about proxies is shown with a `ConfigProvider`; a program that has none of
 * its own reads `http_proxy` and the like from the process's environment.
 */
import { HandshakeRequest, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime } from "@effect/platform-node"
import { ConfigProvider, Console, Effect, Layer } from "effect"
import * as Http from "node:http"
import * as Net from "node:net"

/** What a proxy does with `CONNECT`. */
const tunnel = (request: Http.IncomingMessage, client: Net.Socket) => {
  client.on("error", () => client.destroy())
  const expected = `Basic ${Buffer.from("ada:secret").toString("base64")}`
  if (request.headers["proxy-authorization"] !== expected) {
    return client.end("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n")
  }
  console.log("the proxy connects to the server")
  const [host, port] = request.url?.split(":") ?? []
  const server = Net.connect(Number(port), host, () => {
    client.write("HTTP/1.1 200 Connection established\r\n\r\n")
    server.pipe(client).pipe(server)
  })
  server.on("error", () => client.destroy())
  client.on("close", () => server.destroy())
  return server
}

const startProxy = Effect.map(
  Effect.acquireRelease(
    Effect.callback<Http.Server>((resume) => {
      const server = Http.createServer().on("connect", tunnel)
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
  ),
  (server) => (server.address() as Net.AddressInfo).port
)

const Server = Layer.mergeAll(
  WebSocketServer.serve((connection) => connection.send("hello"), { path: "/new" }),
  WebSocketServer.serve(() => Effect.void, {
    path: "/old",
    handshake: () => new HandshakeRequest.HandshakeRejected({ status: 308, headers: { location: "/new" } })
  })
).pipe(Layer.provideMerge(NodeWebSocketServer.layer({ port: 0 })))

const visit = Effect.fn("visit")(
  function*(url: string) {
    const connection = yield* WebSocketClient.connect(url, { maxRedirects: 1 })
    yield* Console.log(`${connection.request.url} says ${yield* connection.receive}`)
  },
  Effect.scoped,
  Effect.catchReason(
    "ConnectError",
    "ProxyAuthenticationRequired",
    () => Console.log("the proxy does not take the password")
  )
)

const program = Effect.gen(function*() {
  const { url } = yield* WebSocketServer.WebSocketServer
  const proxy = `127.0.0.1:${yield* startProxy}`

  const Through = NodeWebSocketClient.layerWith({ proxy: `http://ada:secret@${proxy}` })
  yield* visit(`${url}/old`).pipe(Effect.provide(Through))

  const Wrong = NodeWebSocketClient.layerWith({ proxy: `http://ada:guess@${proxy}` })
  yield* visit(`${url}/new`).pipe(Effect.provide(Wrong))

  const env = { http_proxy: `http://ada:secret@${proxy}`, no_proxy: "localhost, 127.0.0.0/8" }
  yield* Console.log("no_proxy exempts the server")
  yield* visit(`${url}/new`).pipe(
    Effect.provide(NodeWebSocketClient.layer),
    Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env }))
  )
})

program.pipe(Effect.provide(Server), Effect.scoped, NodeRuntime.runMain)
