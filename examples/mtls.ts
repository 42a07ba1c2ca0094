/**
 * Mutual TLS: clients are known by their certificates.
 *
 *     npx node examples/mtls.ts
 *
 * An authority, made at run time like all else, issues certificates to the server and to Ada. The server asks every
 * client for one, and its handshake hook decides by it: Ada is welcomed by name; Eve, whose certificate is issued by
 * nobody that the server trusts, and somebody without a certificate get an HTTP response that says why. With
 * `rejectUnauthorized` left as it is, the server would drop these two without a word, before the hook.
 */
import { HandshakeRequest, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer } from "effect"
import { generate, type SelfsignedOptions } from "selfsigned"

const makeCertificate = (name: string, options: SelfsignedOptions) =>
  Effect.map(
    Effect.promise(() =>
      generate([{ name: "commonName", value: name }], { keyType: "ec", algorithm: "sha256", ...options })
    ),
    (made) => ({ cert: made.cert, key: made.private })
  )

const makeAuthority = makeCertificate("Authority", { extensions: [{ name: "basicConstraints", cA: true }] })

// Who a client is, by its certificate.
const identify = Effect.fn("identify")(function*({ tls }: HandshakeRequest.HandshakeRequest) {
  const { peer } = yield* Effect.orDie(Effect.fromOption(tls))
  switch (peer._tag) {
    case "Authorized":
      return { data: { name: peer.certificate.subject["CN"] ?? "whoever", until: peer.certificate.validTo } }
    case "Unauthorized":
      return yield* new HandshakeRequest.HandshakeRejected({ status: 403, body: peer.reason })
    case "Anonymous":
      return yield* new HandshakeRequest.HandshakeRejected({ status: 401, body: "no certificate" })
  }
})

const Welcome = WebSocketServer.serve(
  (connection, { name, until }) => connection.send(`welcome, ${name}, until ${until.toISOString()}`),
  { handshake: identify }
)

const visit = Effect.fn("visit")(
  function*(who: string) {
    const { url } = yield* WebSocketServer.WebSocketServer
    const connection = yield* WebSocketClient.connect(url)
    yield* Console.log(`${who}: ${yield* connection.receive}`)
  },
  Effect.scoped,
  (effect, who) =>
    Effect.catchReason(
      effect,
      "ConnectError",
      "UpgradeRejected",
      ({ body, status }) => Console.log(`${who}: rejected with ${status}, ${body}`)
    )
)

const program = Effect.gen(function*() {
  const authority = yield* makeAuthority
  const server = yield* makeCertificate("localhost", { ca: authority })
  const ada = yield* makeCertificate("Ada", { ca: authority })
  const eve = yield* makeCertificate("Eve", {})

  const ca = authority.cert
  const Server = Layer.provideMerge(
    Welcome,
    NodeWebSocketServer.layer({ port: 0, tls: { ...server, ca, requestCert: true, rejectUnauthorized: false } })
  )
  yield* Effect.gen(function*() {
    yield* Effect.provide(visit("Ada"), NodeWebSocketClient.layerWith({ tls: { ca, ...ada } }))
    yield* Effect.provide(visit("Eve"), NodeWebSocketClient.layerWith({ tls: { ca, ...eve } }))
    yield* Effect.provide(visit("somebody"), NodeWebSocketClient.layerWith({ tls: { ca } }))
  }).pipe(Effect.provide(Server))
})

program.pipe(NodeRuntime.runMain)
