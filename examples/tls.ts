/**
 * TLS: a server with a certificate that is made at run time, and clients that trust it or not.
 *
 *     npx node examples/tls.ts
 *
 * The certificate is signed by itself, so nobody trusts it until told to. A client as it is refuses the server, which
 * is a typed error; one that has the certificate among its authorities connects. In production, the certificate comes
 * from an authority that clients know, and they need no option at all.
 */
import { WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Stream } from "effect"
import { generate } from "selfsigned"

const makeCertificate = Effect.map(
  Effect.promise(() => generate([{ name: "commonName", value: "localhost" }], { keyType: "ec", algorithm: "sha256" })),
  (made) => ({ cert: made.cert, key: made.private })
)

const Echo = WebSocketServer.serve((connection) =>
  Stream.runForEach(connection.messages, (message) => connection.send(message))
)

const ask = Effect.fn("ask")(
  function*(url: string, question: string) {
    const connection = yield* WebSocketClient.connect(url)
    yield* connection.send(question)
    return yield* connection.receive
  },
  Effect.scoped
)

const visit = Effect.gen(function*() {
  const { url } = yield* WebSocketServer.WebSocketServer
  const reply = yield* ask(url, "hello")
  yield* Console.log(`${url} says: ${reply}`)
}).pipe(
  Effect.catchReason(
    "ConnectError",
    "CertificateRejected",
    ({ detail }, { url }) => Console.log(`${url} is not trusted: ${detail}`)
  )
)

const program = Effect.gen(function*() {
  const { cert, key } = yield* makeCertificate
  const Server = Layer.provideMerge(Echo, NodeWebSocketServer.layer({ port: 0, tls: { cert, key } }))
  const Trusting = NodeWebSocketClient.layerWith({ tls: { ca: cert } })
  yield* Effect.gen(function*() {
    yield* Effect.provide(visit, NodeWebSocketClient.layer)
    yield* Effect.provide(visit, Trusting)
  }).pipe(Effect.provide(Server))
})

program.pipe(NodeRuntime.runMain)
