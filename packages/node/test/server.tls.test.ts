import { type HandshakeRequest, type TlsState, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketServer } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Layer, Option } from "effect"
import { createHash, X509Certificate } from "node:crypto"
import * as Https from "node:https"
import type { AddressInfo } from "node:net"
import * as Tls from "node:tls"
import { certificates } from "./certificates.ts"
import { echo, handOver, start, withTlsClient } from "./fixture.ts"
import { connectTls, response } from "./rawPeer.ts"

// A server whose hook tells what it sees of TLS.
const observing = Effect.fnUntraced(function*(options: Partial<NodeWebSocketServer.Options>) {
  const seen = yield* Deferred.make<Option.Option<TlsState.TlsState>>()
  const hook = (request: HandshakeRequest.HandshakeRequest) =>
    Effect.as(Deferred.succeed(seen, request.tls), { data: undefined })
  const { url } = yield* start(WebSocketServer.serve(() => Effect.never, { handshake: hook }), options)
  return { url, seen: Deferred.await(seen) }
})

const failure = (options: NodeWebSocketServer.Options) =>
  Effect.flip(Effect.scoped(Layer.build(NodeWebSocketServer.layer(options))))

describe("a server over TLS", () => {
  it.live("is reached by its own url, which says wss (RFC 6455, section 3)", () =>
    Effect.gen(function*() {
      const { authority, server: tls } = yield* certificates
      const { port, server } = yield* start(echo, { tls })
      assert.strictEqual(server.url, `wss://127.0.0.1:${port}`)
      yield* Effect.gen(function*() {
        for (const url of [server.url, `wss://localhost:${port}/path`]) {
          const connection = yield* WebSocketClient.connect(url)
          yield* connection.send("hello")
          assert.strictEqual(yield* connection.receive, "hello")
        }
      }).pipe(withTlsClient({ ca: authority.cert }))
    }))

  it.live("knows the addresses of both ends, also when the connection is gone", () =>
    Effect.gen(function*() {
      const { authority, server: tls } = yield* certificates
      const { accept, serving } = yield* handOver()
      const { port, url } = yield* start(serving, { tls })
      const client = yield* WebSocketClient.connect(url).pipe(withTlsClient({ ca: authority.cert }))
      const connection = yield* accept
      yield* client.close()
      yield* connection.closed
      assert.deepStrictEqual(connection.localAddress, Option.some({ _tag: "Tcp", host: "127.0.0.1", port }))
      assert.deepStrictEqual(client.peerAddress, connection.localAddress)
      assert.deepStrictEqual(client.localAddress, connection.peerAddress)
      assert.isTrue(Option.isSome(client.localAddress))
    }))

  it.live("answers a request that is no upgrade with 426 (RFC 7231, section 6.5.15)", () =>
    Effect.gen(function*() {
      const { server: tls } = yield* certificates
      const { port } = yield* start(echo, { tls })
      const peer = yield* connectTls(port)
      yield* peer.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
      const { headers, status } = yield* response(peer)
      assert.deepStrictEqual([status, headers["upgrade"]], [426, "websocket"])
    }))

  it.live.each([25, 1001, 0.5, Infinity])(
    "takes a handshake timeout of %s ms",
    (handshakeTimeout) =>
      Effect.gen(function*() {
        const { server: tls } = yield* certificates
        const { url } = yield* start(echo, { tls, handshakeTimeout })
        assert.include(url, "127.0.0.1")
      })
  )

  it.live("shows the certificate that belongs to the name asked for (SNI, RFC 6066, section 3)", () =>
    Effect.gen(function*() {
      const { authority, elsewhere, server } = yield* certificates
      const tls: Tls.TlsOptions = {
        SNICallback: (name, done) => done(null, Tls.createSecureContext(name === "other.example" ? elsewhere : server))
      }
      const { port } = yield* start(echo, { tls })
      const shown = Effect.fnUntraced(function*(servername: string) {
        const { socket } = yield* connectTls(port, { servername, ca: authority.cert, rejectUnauthorized: true })
        return (socket as Tls.TLSSocket).getPeerCertificate().subject.CN
      })
      assert.strictEqual(yield* shown("other.example"), "other.example")
      assert.strictEqual(yield* shown("localhost"), "localhost")
    }))

  it.live("settles on http/1.1, and on nothing else (ALPN, RFC 7301)", () =>
    Effect.gen(function*() {
      const { server: tls } = yield* certificates
      const { port } = yield* start(echo, { tls })
      const { socket } = yield* connectTls(port, { ALPNProtocols: ["h2", "http/1.1"] })
      assert.strictEqual((socket as Tls.TLSSocket).alpnProtocol, "http/1.1")
      const error = yield* Effect.flip(connectTls(port, { ALPNProtocols: ["h2"] }))
      assert.include(String(error), "no application protocol")
    }))

  it.live("lives in an https.Server of others, beside its pages", () =>
    Effect.gen(function*() {
      const { authority, server: tls } = yield* certificates
      const https = yield* Effect.acquireRelease(
        Effect.callback<Https.Server>((resume) => {
          const https = Https.createServer({ ...tls }, (_request, response) => response.end("a page"))
          https.listen(0, "127.0.0.1", () => resume(Effect.succeed(https)))
        }),
        (https) => Effect.callback<void>((resume) => void https.close(() => resume(Effect.void)))
      )
      const { port } = https.address() as AddressInfo
      const layer = Layer.provideMerge(echo, NodeWebSocketServer.layerFromHttpServer(Effect.succeed(https)))
      const { url } = Context.get(yield* Layer.build(layer), WebSocketServer.WebSocketServer)
      assert.strictEqual(url, `wss://127.0.0.1:${port}`)
      const connection = yield* WebSocketClient.connect(url).pipe(withTlsClient({ ca: authority.cert }))
      yield* connection.send("hello")
      assert.strictEqual(yield* connection.receive, "hello")
      const page = yield* Effect.callback<string>((resume) => {
        Https.get({ port, host: "127.0.0.1", ca: authority.cert, agent: false }, (response) => {
          response.on("data", (body) => resume(Effect.succeed(String(body))))
        })
      })
      assert.strictEqual(page, "a page")
    }))

  it.live.each<
    readonly [
      name: string,
      tls: (all: Effect.Success<typeof certificates>) => Tls.TlsOptions,
      detail: string
    ]
  >([
    ["no certificate", () => ({}), "no certificate"],
    ["a certificate without its key", ({ server: { cert } }) => ({ cert }), "a certificate without its key"],
    ["a key without its certificate", ({ server: { key } }) => ({ key }), "a key without its certificate"],
    ["the key of another certificate", ({ authority, server }) => ({ ...server, key: authority.key }), "mismatch"],
    ["a certificate that is none", ({ server }) => ({ ...server, cert: "?" }), "no start line"],
    ["a certificate that is cut off", ({ server }) => ({ ...server, cert: server.cert.slice(0, 200) }), ""],
    ["a key that is none", ({ server }) => ({ ...server, key: "?" }), ""],
    ["an archive that is none", () => ({ pfx: "?" }), ""],
    ["an authority that is none", ({ server }) => ({ ...server, ca: ["?"] }), ""]
  ])("does not start with %s: InvalidCertificate", ([, tls, detail]) =>
    Effect.gen(function*() {
      const error = yield* failure({ port: 0, tls: tls(yield* certificates) })
      if (error.reason._tag !== "InvalidCertificate") return assert.fail(error.message)
      assert.include(error.reason.detail, detail)
      assert.include(error.message, "InvalidCertificate: 127.0.0.1:0")
    }))
})

describe("the handshake hook sees", () => {
  it.live("no TLS where there is none", () =>
    Effect.gen(function*() {
      const { seen, url } = yield* observing({})
      yield* WebSocketClient.connect(url).pipe(withTlsClient({}))
      assert.deepStrictEqual(yield* seen, Option.none())
    }))

  it.live("the version of TLS, and that nobody was asked who he is", () =>
    Effect.gen(function*() {
      const { ada, authority, server } = yield* certificates
      const { seen, url } = yield* observing({ tls: { ...server, maxVersion: "TLSv1.2" } })
      yield* WebSocketClient.connect(url).pipe(withTlsClient({ ca: authority.cert, ...ada }))
      assert.deepStrictEqual(yield* seen, Option.some({ version: "TLSv1.2", peer: { _tag: "Anonymous" } }))
    }))

  it.live("the certificate of a client that is asked for it", () =>
    Effect.gen(function*() {
      const { ada, authority, server } = yield* certificates
      const { seen, url } = yield* observing({ tls: { ...server, ca: authority.cert, requestCert: true } })
      yield* WebSocketClient.connect(url).pipe(withTlsClient({ ca: authority.cert, ...ada }))
      const { peer, version } = Option.getOrThrow(yield* seen)
      if (peer._tag !== "Authorized") return assert.fail(peer._tag)
      const { fingerprint, issuer, raw, subject, validFrom, validTo } = peer.certificate
      assert.strictEqual(version, "TLSv1.3")
      assert.deepStrictEqual([subject["CN"], issuer["CN"]], ["Ada", "Authority"])
      const certificate = new X509Certificate(ada.cert)
      assert.deepStrictEqual([validFrom, validTo], [certificate.validFromDate, certificate.validToDate])
      assert.deepStrictEqual(raw, new Uint8Array(certificate.raw))
      const digest = createHash("sha256").update(raw).digest("hex").toUpperCase()
      assert.strictEqual(fingerprint.replaceAll(":", ""), digest)
    }))

  it.live.each(
    [
      ["has expired", "expiredAda", "CERT_HAS_EXPIRED"],
      ["is a stranger's", "foreignAda", "UNABLE_TO_VERIFY_LEAF_SIGNATURE"]
    ] as const
  )("a certificate that %s, and why it is not to be trusted", ([, name, expected]) =>
    Effect.gen(function*() {
      const { authority, [name]: certificate, server } = yield* certificates
      const { seen, url } = yield* observing({
        tls: { ...server, ca: authority.cert, requestCert: true, rejectUnauthorized: false }
      })
      yield* WebSocketClient.connect(url).pipe(withTlsClient({ ca: authority.cert, ...certificate }))
      const { peer } = Option.getOrThrow(yield* seen)
      if (peer._tag !== "Unauthorized") return assert.fail(peer._tag)
      assert.deepStrictEqual([peer.certificate.subject["CN"], peer.reason], ["Ada", expected])
    }))

  it.live("that a client has no certificate, if none is required", () =>
    Effect.gen(function*() {
      const { authority, server } = yield* certificates
      const { seen, url } = yield* observing({
        tls: { ...server, ca: authority.cert, requestCert: true, rejectUnauthorized: false }
      })
      yield* WebSocketClient.connect(url).pipe(withTlsClient({ ca: authority.cert }))
      assert.deepStrictEqual(yield* seen, Option.some({ version: "TLSv1.3", peer: { _tag: "Anonymous" } }))
    }))
})

describe("a server that requires client certificates", () => {
  it.live.each(["expiredAda", "foreignAda", undefined] as const)(
    "lets nobody in who has none that is valid (%s)",
    (name) =>
      Effect.gen(function*() {
        const all = yield* certificates
        const { accept, serving } = yield* handOver()
        const { server, url } = yield* start(serving, {
          tls: { ...all.server, ca: all.authority.cert, requestCert: true }
        })
        const ca = all.authority.cert
        const refused = WebSocketClient.connect(url).pipe(withTlsClient(name ? { ca, ...all[name] } : { ca }))
        assert.strictEqual((yield* Effect.flip(refused)).reason._tag, "NetworkFailure")
        assert.strictEqual((yield* server.connections).length, 0)
        // It goes on with those who are let in, and only with them.
        const client = yield* WebSocketClient.connect(url).pipe(withTlsClient({ ca, ...all.ada }))
        assert.deepStrictEqual((yield* accept).peerAddress, client.localAddress)
      })
  )
})
