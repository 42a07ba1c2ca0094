import { WebSocketClient } from "@effect-ws/core"
import { NodeWebSocketClient } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import * as Tls from "node:tls"
import { certificates } from "./certificates.ts"
import { connect, echo, start, unhandledErrors, withTlsClient } from "./fixture.ts"
import { brokenRecord, carrierOf, listenRaw, listenTls, RawPeer } from "./rawPeer.ts"

/** Why connecting fails. */
const failure = (url: string, tls: NodeWebSocketClient.TlsOptions) =>
  WebSocketClient.connect(url).pipe(
    Effect.scoped,
    Effect.flip,
    Effect.map(({ reason }) => reason),
    withTlsClient(tls)
  )

type Name = keyof Effect.Success<typeof certificates>

/** A server with one of the certificates. */
const serverWith = Effect.fnUntraced(function*(name: Name) {
  const { authority, [name]: tls } = yield* certificates
  return { ...(yield* start(echo, { tls })), ca: authority.cert }
})

const talk = Effect.fnUntraced(function*(url: string) {
  const connection = yield* WebSocketClient.connect(url)
  yield* connection.send("hello")
  assert.strictEqual(yield* connection.receive, "hello")
}, Effect.scoped)

describe("a client over TLS", () => {
  it.live.each<readonly [name: Name, code: string]>([
    ["selfSigned", "DEPTH_ZERO_SELF_SIGNED_CERT"],
    ["expired", "CERT_HAS_EXPIRED"],
    ["early", "CERT_NOT_YET_VALID"],
    ["elsewhere", "ERR_TLS_CERT_ALTNAME_INVALID"]
  ])("rejects a certificate that does not verify: %s", ([name, code]) =>
    Effect.gen(function*() {
      const { ca, server, url } = yield* serverWith(name)
      const reason = yield* failure(url, { ca })
      if (reason._tag !== "CertificateRejected") return assert.fail(reason._tag)
      assert.strictEqual((reason.cause as NodeJS.ErrnoException).code, code)
      assert.isAbove(reason.detail.length, 0)
      assert.deepStrictEqual(yield* server.connections, [])
      // It is the certificate, and nothing else.
      yield* talk(url).pipe(withTlsClient({ ca, rejectUnauthorized: false }))
    }))

  it.live("rejects by default, whatever the environment says, what nobody has vouched for", () =>
    Effect.gen(function*() {
      const { url } = yield* serverWith("server")
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          process.env["NODE_TLS_REJECT_UNAUTHORIZED"] = "0"
        }),
        () =>
          Effect.sync(() => {
            delete process.env["NODE_TLS_REJECT_UNAUTHORIZED"]
          })
      )
      const { reason } = yield* Effect.flip(connect(url))
      assert.strictEqual(reason._tag, "CertificateRejected")
      assert.strictEqual((yield* failure(url, {}))._tag, "CertificateRejected")
    }))

  it.live("says in the error's message what is wrong", () =>
    Effect.gen(function*() {
      const { url } = yield* serverWith("selfSigned")
      const { message } = yield* Effect.flip(connect(url))
      assert.include(message, `CertificateRejected (${url}): self-signed certificate`)
    }))

  it.live("trusts the authorities that it is given, several too", () =>
    Effect.gen(function*() {
      const { stranger } = yield* certificates
      const { ca, url } = yield* serverWith("server")
      yield* talk(url).pipe(withTlsClient({ ca }))
      yield* talk(url).pipe(withTlsClient({ ca: [stranger.cert, ca] }))
      assert.strictEqual((yield* failure(url, { ca: stranger.cert }))._tag, "CertificateRejected")
    }))

  it.live("takes a certificate that is for the URL's address (RFC 2818, section 3.1)", () =>
    Effect.gen(function*() {
      const { authority, elsewhere, server } = yield* certificates
      const right = yield* start(echo, { tls: server, host: "::1" })
      yield* talk(right.url).pipe(withTlsClient({ ca: authority.cert }))
      const wrong = yield* start(echo, { tls: elsewhere, host: "::1" })
      assert.strictEqual((yield* failure(wrong.url, { ca: authority.cert }))._tag, "CertificateRejected")
      assert.strictEqual(right.url, `wss://[::1]:${right.port}`)
    }))

  it.live("asks for another name if told to, and takes the certificate that is for it (SNI)", () =>
    Effect.gen(function*() {
      const { ca, url } = yield* serverWith("elsewhere")
      yield* talk(url).pipe(withTlsClient({ ca, servername: "other.example" }))
      const { url: local } = yield* serverWith("server")
      const reason = yield* failure(local, { ca, servername: "other.example" })
      assert.strictEqual(reason._tag, "CertificateRejected")
    }))

  it.live("leaves the check of the name to its own function", () =>
    Effect.gen(function*() {
      const { ca, url } = yield* serverWith("elsewhere")
      yield* talk(url).pipe(withTlsClient({ ca, checkServerIdentity: () => undefined }))
      const checkServerIdentity = () => new Error("not the one I know")
      const reason = yield* failure(url, { ca, checkServerIdentity })
      assert.strictEqual(reason._tag === "CertificateRejected" && reason.detail, "not the one I know")
    }))

  it.live("names the host, and offers http/1.1 in ALPN (RFC 7301)", () =>
    Effect.gen(function*() {
      const { authority, server } = yield* certificates
      const { accept, port } = yield* listenTls({ ...server, ALPNProtocols: ["h2", "http/1.1"] })
      yield* Effect.forkScoped(
        WebSocketClient.connect(`wss://localhost:${port}`).pipe(withTlsClient({ ca: authority.cert }))
      )
      const { socket } = yield* accept
      const { alpnProtocol, servername } = socket as Tls.TLSSocket & { readonly servername: string }
      assert.deepStrictEqual([alpnProtocol, servername], ["http/1.1", "localhost"])
    }))

  it.live("uses a secure context that is made already", () =>
    Effect.gen(function*() {
      const { ca, url } = yield* serverWith("server")
      yield* talk(url).pipe(withTlsClient({ secureContext: Tls.createSecureContext({ ca }) }))
    }))

  it.live.each<
    readonly [name: string, tls: (all: Effect.Success<typeof certificates>) => NodeWebSocketClient.TlsOptions]
  >([
    ["a certificate without its key", ({ ada: { cert } }) => ({ cert })],
    ["a key without its certificate", ({ ada: { key } }) => ({ key })],
    ["the key of another certificate", ({ ada, server }) => ({ ...ada, key: server.key })],
    ["a certificate that is none", ({ ada }) => ({ ...ada, cert: "?" })],
    ["an authority that is none", () => ({ ca: "?" })],
    ["an authority that is none among others", ({ authority }) => ({ ca: [authority.cert, "?"] })]
  ])("is not made with %s: InvalidCertificate", ([, tls]) =>
    Effect.gen(function*() {
      const layer = NodeWebSocketClient.layerWith({ tls: tls(yield* certificates) })
      const error = yield* Effect.flip(Layer.build(layer))
      assert.strictEqual(error._tag, "InvalidCertificate")
      assert.isAbove(error.detail.length, 0)
    }))
})

describe("a connection over TLS that is not established", () => {
  it.live("nobody listens: ConnectionRefused", () =>
    Effect.gen(function*() {
      const { port } = yield* Effect.scoped(listenRaw)
      assert.strictEqual((yield* failure(`wss://127.0.0.1:${port}`, {}))._tag, "ConnectionRefused")
    }))

  it.live("the server does not speak TLS, or only the server does: an error of the network or of HTTP", () =>
    Effect.gen(function*() {
      const plain = yield* start(echo)
      const reason = yield* failure(plain.url.replace("ws:", "wss:"), {})
      assert.strictEqual(reason._tag, "NetworkFailure")
      const { ca, url } = yield* serverWith("server")
      const { _tag } = yield* failure(url.replace("wss:", "ws:"), { ca })
      assert.include(["NetworkFailure", "BadUpgrade"], _tag)
    }))

  it.live.each<readonly [name: string, serve: (peer: RawPeer) => Effect.Effect<unknown>]>([
    ["ends the connection", (peer) => Effect.andThen(Effect.ignore(peer.bytes(1)), peer.end)],
    ["resets the connection", (peer) => Effect.andThen(Effect.ignore(peer.bytes(1)), peer.reset)],
    ["sends garbage", (peer) => peer.send("HTTP/1.1 400 Bad Request\r\n\r\n")],
    ["sends an alert", (peer) => peer.send(Buffer.from("15030300020228", "hex"))]
  ])("the server %s during the TLS handshake: NetworkFailure", ([, serve]) =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const { accept, port } = yield* listenRaw
      const failing = yield* Effect.forkChild(failure(`wss://127.0.0.1:${port}`, {}))
      const peer = yield* accept
      yield* serve(peer)
      assert.strictEqual((yield* Fiber.join(failing))._tag, "NetworkFailure")
      yield* peer.rest
      assert.deepStrictEqual(errors, [])
    }))

  it.live("the server breaks a TLS record instead of an answer: NetworkFailure, and the socket is gone", () =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const { server: tls } = yield* certificates
      const { accept, port } = yield* listenRaw
      const failing = yield* Effect.forkChild(failure(`wss://127.0.0.1:${port}`, { rejectUnauthorized: false }))
      const raw = yield* accept
      const secureContext = Tls.createSecureContext(tls)
      const peer = new RawPeer(new Tls.TLSSocket(carrierOf(raw), { isServer: true, secureContext }))
      yield* peer.head
      yield* raw.send(brokenRecord)
      assert.strictEqual((yield* Fiber.join(failing))._tag, "NetworkFailure")
      yield* raw.rest
      assert.deepStrictEqual(errors, [])
    }))

  it.live("the server says nothing: ConnectTimeout, and the socket is gone", () =>
    Effect.gen(function*() {
      const { accept, port } = yield* listenRaw
      const connecting = WebSocketClient.connect(`wss://127.0.0.1:${port}`, { connectTimeout: "100 millis" })
      const { reason } = yield* Effect.flip(connecting).pipe(withTlsClient({}))
      assert.strictEqual(reason._tag, "ConnectTimeout")
      const peer = yield* accept
      yield* peer.rest
    }))

  it.live("interrupted during the TLS handshake, it leaves no socket", () =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const { accept, port } = yield* listenRaw
      const connecting = yield* Effect.forkChild(failure(`wss://127.0.0.1:${port}`, {}))
      const peer = yield* accept
      yield* peer.bytes(1)
      yield* Fiber.interrupt(connecting)
      yield* peer.rest
      assert.deepStrictEqual(errors, [])
    }))
})
