import { WebSocketClient } from "@effect-ws/core"
import { NodeWebSocketClient } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Fiber, Option } from "effect"
import { createSecureContext, TLSSocket } from "node:tls"
import { certificates } from "./certificates.ts"
import { echo, start, unhandledErrors } from "./fixture.ts"
import { startHttpProxy, withClient } from "./proxies.ts"
import { brokenRecord, carrierOf, listenRaw, listenTls, RawPeer, switching } from "./rawPeer.ts"

const talk = Effect.fnUntraced(function*(url: string) {
  const connection = yield* WebSocketClient.connect(url)
  yield* connection.send("hello")
  assert.strictEqual(yield* connection.receive, "hello")
  return connection
})

const failure = (url: string, options?: WebSocketClient.ConnectOptions) =>
  WebSocketClient.connect(url, options).pipe(Effect.scoped, Effect.flip)

const reasonOf = (url: string, options?: WebSocketClient.ConnectOptions) =>
  Effect.map(failure(url, options), ({ reason }) => reason)

/** A server and a proxy, each with or without TLS, and the options of a client that trusts them. */
const between = Effect.fnUntraced(function*(server: "ws" | "wss", proxy: "http" | "https") {
  const { authority, server: tls } = yield* certificates
  const started = yield* start(echo, server === "wss" ? { tls } : {})
  const through = yield* startHttpProxy(proxy === "https" ? tls : undefined)
  const ca = authority.cert
  const options: NodeWebSocketClient.Options = { tls: { ca }, proxyTls: { ca }, proxy: through.url }
  return { ...started, proxy: through, options }
})

describe("a client behind an HTTP proxy (RFC 6455, section 4.1; RFC 9110, section 9.3.6)", () => {
  it.live.each([["ws", "http"], ["wss", "http"], ["ws", "https"], ["wss", "https"]] as const)(
    "asks it for a tunnel, and speaks to the server through that: %s over %s",
    ([scheme, proxyScheme]) =>
      Effect.gen(function*() {
        const { options, port, proxy, url } = yield* between(scheme, proxyScheme)
        const { peerAddress } = yield* talk(url).pipe(withClient(options))
        assert.deepStrictEqual(Option.getOrThrow(peerAddress), { _tag: "Tcp", host: "127.0.0.1", port: proxy.port })
        const target = `127.0.0.1:${port}`
        assert.deepStrictEqual(proxy.requests.map((request) => request.target), [target])
        assert.strictEqual(proxy.requests[0]?.headers.host, target)
        assert.isUndefined(proxy.requests[0]?.headers["proxy-authorization"])
      })
  )

  it.live("puts an IPv6 address in brackets", () =>
    Effect.gen(function*() {
      const { port, url } = yield* start(echo, { host: "::1" })
      const proxy = yield* startHttpProxy()
      yield* talk(url).pipe(withClient({ proxy: proxy.url }))
      assert.deepStrictEqual(proxy.requests.map(({ target }) => target), [`[::1]:${port}`])
    }))

  it.live("tells it the credentials of its URL, and nobody else (RFC 7617)", () =>
    Effect.gen(function*() {
      const { accept, port, url } = yield* listenRaw
      const proxy = yield* startHttpProxy()
      const userinfo = "%C3%84da:p%40ss%3Aw%20rd"
      yield* Effect.forkChild(
        reasonOf(url).pipe(withClient({ proxy: proxy.url.replace("//", `//${userinfo}@`) }))
      )
      const head = yield* (yield* accept).head
      assert.notInclude(head.toLowerCase(), "authorization")
      const basic = `Basic ${Buffer.from("Äda:p@ss:w rd").toString("base64")}`
      assert.strictEqual(proxy.requests[0]?.headers["proxy-authorization"], basic)
      assert.strictEqual(proxy.requests[0]?.target, `127.0.0.1:${port}`)
    }))

  it.live("lets it look up names", () =>
    Effect.gen(function*() {
      const { accept, port } = yield* listenRaw
      const connecting = reasonOf("ws://nowhere.invalid:81/").pipe(withClient({ proxy: `http://127.0.0.1:${port}` }))
      yield* Effect.forkChild(connecting)
      assert.match(yield* (yield* accept).head, /^CONNECT nowhere\.invalid:81 HTTP\/1\.1\r\n/)
    }))

  it.live("names the proxy to it in SNI, and the server to the server", () =>
    Effect.gen(function*() {
      const { authority, server } = yield* certificates
      const { accept, port } = yield* listenTls(server)
      const ca = authority.cert
      const options = { tls: { ca }, proxyTls: { ca }, proxy: `https://localhost:${port}` }
      yield* Effect.forkChild(reasonOf("wss://server.example").pipe(withClient(options)))
      const proxy = yield* accept
      assert.strictEqual((proxy.socket as TLSSocket & { readonly servername: string }).servername, "localhost")
      assert.match(yield* proxy.head, /^CONNECT server\.example:443 HTTP/)
      yield* proxy.send("HTTP/1.1 200 OK\r\n\r\n")
      assert.include((yield* proxy.bytes(400)).toString("latin1"), "server.example")
    }))

  it.live("verifies the certificates of both", () =>
    Effect.gen(function*() {
      const { stranger } = yield* certificates
      const { options, proxy, url } = yield* between("wss", "https")
      const reason = yield* reasonOf(url).pipe(withClient({ ...options, tls: { ca: stranger.cert } }))
      assert.strictEqual(reason._tag, "CertificateRejected")
      const other = yield* reasonOf(url).pipe(withClient({ ...options, proxyTls: { ca: stranger.cert } }))
      if (other._tag !== "ProxyUnreachable") return assert.fail(other._tag)
      assert.strictEqual((other.cause as NodeJS.ErrnoException).code, "UNABLE_TO_VERIFY_LEAF_SIGNATURE")
      assert.strictEqual(other.proxy, proxy.url)
    }))
})

/** Reads what a client sends to a proxy, and answers. */
const answer = (peer: RawPeer, ...bytes: ReadonlyArray<string | Uint8Array>) =>
  Effect.andThen(Effect.orDie(peer.head), peer.send(...bytes))

const established = "HTTP/1.1 200 Connection established\r\n\r\n"

/** Why connecting fails through a proxy that does this; its socket has to be gone after it, and no error unhandled. */
const failureBy = Effect.fnUntraced(function*(
  serve: (peer: RawPeer) => Effect.Effect<unknown>,
  url = "ws://server.example",
  options?: WebSocketClient.ConnectOptions
) {
  const errors = yield* unhandledErrors
  const { accept, port } = yield* listenRaw
  const proxy = `http://127.0.0.1:${port}`
  const failing = yield* Effect.forkChild(
    reasonOf(url, options).pipe(withClient({ proxy: `http://a:secret@127.0.0.1:${port}` }))
  )
  const peer = yield* accept
  const serving = yield* Effect.forkChild(serve(peer))
  const reason = yield* Fiber.join(failing)
  yield* peer.rest
  yield* Fiber.interrupt(serving)
  assert.deepStrictEqual(errors, [])
  if ("proxy" in reason) assert.strictEqual(reason.proxy, proxy)
  assert.notInclude(JSON.stringify(reason), "secret")
  return reason
}, Effect.scoped)

describe("an HTTP proxy that", () => {
  it.live.each([300, 400, 403, 404, 500, 502, 503, 504])(
    "refuses with %s: ProxyRefused",
    (status) =>
      Effect.gen(function*() {
        const reason = yield* failureBy((peer) => answer(peer, `HTTP/1.1 ${status} No\r\nContent-Length: 3\r\n\r\nno!`))
        assert.isTrue(reason._tag === "ProxyRefused" && reason.code === status)
      })
  )

  it.live.each([401, 407])(
    "wants other credentials, with %s: ProxyAuthenticationRequired",
    (status) =>
      Effect.gen(function*() {
        const reason = yield* failureBy((peer) =>
          answer(peer, `HTTP/1.1 ${status} Who?\r\nProxy-Authenticate: Basic\r\n\r\n`)
        )
        assert.strictEqual(reason._tag, "ProxyAuthenticationRequired")
      })
  )

  it.live.each<readonly [name: string, serve: (peer: RawPeer) => Effect.Effect<unknown>]>([
    ["sends garbage", (peer) => answer(peer, "SSH-2.0-OpenSSH_9.2\r\n\r\n")],
    ["answers without end", (peer) => answer(peer, "HTTP/1.1 200 OK\r\nX: ", "x".repeat(100_000))],
    ["closes at once", (peer) => peer.end],
    ["closes without an answer", (peer) => Effect.andThen(answer(peer), peer.end)],
    ["resets without an answer", (peer) => Effect.andThen(answer(peer), peer.reset)],
    ["closes in the middle of its answer", (peer) => Effect.andThen(answer(peer, "HTTP/1.1 200 O"), peer.end)],
    ["resets in the middle of its answer", (peer) => Effect.andThen(answer(peer, "HTTP/1.1 200 O"), peer.reset)]
  ])("%s: ProxyFailure", ([, serve]) =>
    Effect.gen(function*() {
      const reason = yield* failureBy(serve)
      assert.isTrue(reason._tag === "ProxyFailure" && reason.detail !== "", reason._tag)
    }))

  it.live.each(
    (["ws", "wss"] as const).flatMap((scheme) => (["end", "reset"] as const).map((way) => [scheme, way] as const))
  )("breaks off behind its answer: NetworkFailure (%s, %s)", ([scheme, way]) =>
    Effect.gen(function*() {
      // The first byte is the server's to get: of a request, or of TLS.
      const reason = yield* failureBy(
        (peer) => Effect.andThen(Effect.andThen(answer(peer, established), Effect.orDie(peer.bytes(1))), peer[way]),
        `${scheme}://server.example`
      )
      assert.strictEqual(reason._tag, "NetworkFailure")
    }))

  it.live("passes on an answer of the server together with its own: nothing of it is lost", () =>
    Effect.gen(function*() {
      const reason = yield* failureBy((peer) =>
        answer(peer, established, "HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nnever")
      )
      assert.isTrue(reason._tag === "UpgradeRejected" && reason.status === 403 && reason.body === "never")
    }))

  it.live("passes on garbage where TLS should be: NetworkFailure", () =>
    Effect.gen(function*() {
      const reason = yield* failureBy((peer) => answer(peer, established, "what?"), "wss://server.example")
      assert.strictEqual(reason._tag, "NetworkFailure")
    }))

  it.live.each<readonly [name: string, url: string, serve: (peer: RawPeer) => Effect.Effect<unknown>]>([
    ["says nothing", "ws://server.example", () => Effect.never],
    [
      "dribbles",
      "ws://server.example",
      (peer) => Effect.forEach(`HTTP/1.1 200 ${"a".repeat(1000)}`, (byte) => Effect.delay(peer.send(byte), "5 millis"))
    ],
    ["says nothing behind its answer", "ws://server.example", (peer) => answer(peer, established)],
    ["says nothing of TLS behind its answer", "wss://server.example", (peer) => answer(peer, established)]
  ])("%s: ConnectTimeout", ([, url, serve]) =>
    Effect.gen(function*() {
      assert.strictEqual((yield* failureBy(serve, url, { connectTimeout: "100 millis" }))._tag, "ConnectTimeout")
    }))

  it.live("is not there: ProxyUnreachable", () =>
    Effect.gen(function*() {
      const { port } = yield* Effect.scoped(listenRaw)
      for (const scheme of ["http", "https", "socks5h"]) {
        const error = yield* failure("ws://server.example").pipe(
          withClient({ proxy: `${scheme}://u:secret@127.0.0.1:${port}` })
        )
        const { reason } = error
        if (reason._tag !== "ProxyUnreachable") return assert.fail(reason._tag)
        assert.strictEqual((reason.cause as NodeJS.ErrnoException).code, "ECONNREFUSED")
        assert.strictEqual(error.message, `ProxyUnreachable (ws://server.example): ${scheme}://127.0.0.1:${port}`)
      }
      const nowhere = `${"a".repeat(64)}.invalid`
      const reason = yield* reasonOf("ws://server.example").pipe(withClient({ proxy: `http://${nowhere}:1` }))
      assert.strictEqual(reason._tag, "ProxyUnreachable")
    }))

  it.live("should speak TLS and does not: ProxyUnreachable", () =>
    Effect.gen(function*() {
      const { accept, port } = yield* listenRaw
      const failing = yield* Effect.forkChild(
        reasonOf("ws://server.example").pipe(withClient({ proxy: `https://127.0.0.1:${port}` }))
      )
      const peer = yield* accept
      yield* peer.send("HTTP/1.1 400 Bad Request\r\n\r\n")
      assert.strictEqual((yield* Fiber.join(failing))._tag, "ProxyUnreachable")
      yield* peer.rest
    }))
})

describe("a connection through a proxy that", () => {
  it.live.each([["ws", "http"], ["wss", "http"], ["ws", "https"], ["wss", "https"]] as const)(
    "goes away is lost: %s over %s",
    ([scheme, proxyScheme]) =>
      Effect.gen(function*() {
        const errors = yield* unhandledErrors
        const { options, proxy, url } = yield* between(scheme, proxyScheme)
        const connection = yield* WebSocketClient.connect(url).pipe(withClient(options))
        yield* proxy.drop
        const error = yield* Effect.flip(connection.receive)
        assert.strictEqual(error._tag === "ConnectionError" && error.reason._tag, "ConnectionLost")
        assert.deepStrictEqual(errors, [])
      })
  )

  /** A proxy over TLS, played by hand, and what is below its TLS. */
  const overTls = Effect.fnUntraced(function*(url: string) {
    const { authority, server: tls } = yield* certificates
    const ca = authority.cert
    const secureContext = createSecureContext(tls)
    const speakTls = (peer: RawPeer) => new RawPeer(new TLSSocket(carrierOf(peer), { isServer: true, secureContext }))
    const { accept, port } = yield* listenRaw
    const connecting = yield* Effect.forkChild(
      WebSocketClient.connect(url, { heartbeat: false }).pipe(
        withClient({ proxy: `https://localhost:${port}`, proxyTls: { ca }, tls: { ca } })
      )
    )
    const raw = yield* accept
    const proxy = speakTls(raw)
    yield* answer(proxy, established)
    return { connecting, raw, proxy, speakTls }
  })

  it.live.each(["ws://localhost", "wss://localhost"])(
    "breaks a record of its TLS is lost: %s",
    (url) =>
      Effect.gen(function*() {
        const errors = yield* unhandledErrors
        const { connecting, proxy, raw, speakTls } = yield* overTls(url)
        const server = url.startsWith("wss:") ? speakTls(proxy) : proxy
        yield* server.send(switching(yield* server.head))
        const connection = yield* Fiber.join(connecting)
        yield* raw.send(brokenRecord)
        const error = yield* Effect.flip(connection.receive)
        assert.strictEqual(error._tag === "ConnectionError" && error.reason._tag, "ConnectionLost")
        yield* raw.rest
        assert.deepStrictEqual(errors, [])
      })
  )

  it.live.each(["ws://localhost", "wss://localhost"])(
    "breaks a record of its TLS before there is one: NetworkFailure, %s",
    (url) =>
      Effect.gen(function*() {
        const errors = yield* unhandledErrors
        const { connecting, proxy, raw } = yield* overTls(url)
        yield* proxy.bytes(1)
        yield* raw.send(brokenRecord)
        assert.strictEqual((yield* Effect.flip(Fiber.join(connecting))).reason._tag, "NetworkFailure")
        yield* raw.rest
        assert.deepStrictEqual(errors, [])
      })
  )
})

describe("interrupting connect behind a proxy leaves no socket", () => {
  type Stage = readonly [name: string, url: string, serve: (peer: RawPeer) => Effect.Effect<unknown, unknown>]
  const stages: ReadonlyArray<Stage> = [
    ["before its request was read", "ws://a.example", () => Effect.void],
    ["before its answer", "ws://a.example", (peer) => answer(peer)],
    ["in the middle of its answer", "ws://a.example", (peer) => answer(peer, "HTTP/1.1 200 Conn")],
    ["before the server's answer", "ws://a.example", (peer) => Effect.andThen(answer(peer, established), peer.head)],
    [
      "in the middle of the server's answer",
      "ws://a.example",
      (peer) =>
        Effect.andThen(
          answer(peer, established),
          Effect.flatMap(peer.head, (request) => peer.send(switching(request).slice(0, 40)))
        )
    ],
    ["during the TLS handshake", "wss://a.example", (peer) => Effect.andThen(answer(peer, established), peer.bytes(1))]
  ]

  it.live.each(stages)("%s", ([, url, serve]) =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const { accept, port } = yield* listenRaw
      const connecting = yield* Effect.forkChild(reasonOf(url).pipe(withClient({ proxy: `http://127.0.0.1:${port}` })))
      const peer = yield* accept
      yield* serve(peer)
      yield* Fiber.interrupt(connecting)
      yield* peer.rest
      assert.deepStrictEqual(errors, [])
    }))

  it.live.each(stages)("%s, over TLS to the proxy", ([, url, serve]) =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const { authority, server } = yield* certificates
      const { accept, port } = yield* listenTls(server)
      const connecting = yield* Effect.forkChild(
        reasonOf(url).pipe(
          withClient({ proxy: `https://127.0.0.1:${port}`, proxyTls: { ca: authority.cert } })
        )
      )
      const peer = yield* accept
      yield* serve(peer)
      yield* Fiber.interrupt(connecting)
      yield* peer.rest
      assert.deepStrictEqual(errors, [])
    }))

  it.live("during the TLS handshake with the proxy", () =>
    Effect.gen(function*() {
      const { accept, port } = yield* listenRaw
      const connecting = yield* Effect.forkChild(
        reasonOf("ws://a.example").pipe(withClient({ proxy: `https://127.0.0.1:${port}` }))
      )
      const peer = yield* accept
      yield* peer.bytes(1)
      yield* Fiber.interrupt(connecting)
      yield* peer.rest
    }))
})

describe("what the environment says about proxies", () => {
  /** How the proxy was asked for a tunnel to the URL; `undefined` if it was not. */
  const askedFor = Effect.fnUntraced(function*(
    url: string,
    environment: (proxy: string) => Record<string, string>,
    options: NodeWebSocketClient.Options = {}
  ) {
    const { accept, port } = yield* listenRaw
    const env = environment(`127.0.0.1:${port}`)
    // Where there is no proxy, the name is not found.
    const connecting = reasonOf(url).pipe(
      withClient({ lookup: (_host, _options, callback) => callback(new Error("no proxy"), []), ...options }),
      Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env }))
    )
    const asked = Effect.flatMap(accept, (peer) => peer.head)
    return yield* Effect.raceFirst(Effect.map(asked, (head) => head.split("\r\n")[0]), Effect.as(connecting, undefined))
  }, Effect.scoped)

  const plain = "ws://server.example/"
  const secure = "wss://server.example/"
  const toPlain = "CONNECT server.example:80 HTTP/1.1"
  const toSecure = "CONNECT server.example:443 HTTP/1.1"
  type Case = readonly [
    name: string,
    url: string,
    environment: (proxy: string) => Record<string, string>,
    asked: string | undefined
  ]

  it.live.each<Case>([
    ["http_proxy, for ws:", plain, (proxy) => ({ http_proxy: `http://${proxy}` }), toPlain],
    ["http_proxy, not for wss:", secure, (proxy) => ({ http_proxy: `http://${proxy}` }), undefined],
    ["https_proxy, for wss:", secure, (proxy) => ({ https_proxy: `http://${proxy}` }), toSecure],
    ["https_proxy, not for ws:", plain, (proxy) => ({ https_proxy: `http://${proxy}` }), undefined],
    ["HTTPS_PROXY", secure, (proxy) => ({ HTTPS_PROXY: `http://${proxy}` }), toSecure],
    ["HTTP_PROXY, which a request may have set", plain, (proxy) => ({ HTTP_PROXY: `http://${proxy}` }), undefined],
    ["all_proxy, for ws:", plain, (proxy) => ({ all_proxy: `http://${proxy}` }), toPlain],
    ["ALL_PROXY, for wss:", secure, (proxy) => ({ ALL_PROXY: `http://${proxy}` }), toSecure],
    ["a proxy without a scheme", plain, (proxy) => ({ http_proxy: proxy }), toPlain],
    ["nothing", plain, () => ({}), undefined],
    ["an empty variable", plain, () => ({ http_proxy: "" }), undefined],
    [
      "https_proxy rather than all_proxy",
      secure,
      (proxy) => ({ https_proxy: `http://${proxy}`, all_proxy: "http://127.0.0.1:1" }),
      toSecure
    ],
    [
      "lower case rather than upper case",
      secure,
      (proxy) => ({ https_proxy: `http://${proxy}`, HTTPS_PROXY: "http://127.0.0.1:1" }),
      toSecure
    ],
    ["no_proxy", plain, (proxy) => ({ http_proxy: proxy, no_proxy: "server.example" }), undefined],
    ["NO_PROXY", plain, (proxy) => ({ http_proxy: proxy, NO_PROXY: "*" }), undefined],
    ["no_proxy for others", plain, (proxy) => ({ http_proxy: proxy, no_proxy: "other.example" }), toPlain],
    [
      "no_proxy for the port of ws:",
      plain,
      (proxy) => ({ all_proxy: proxy, no_proxy: "server.example:80" }),
      undefined
    ],
    ["no_proxy for another port", secure, (proxy) => ({ all_proxy: proxy, no_proxy: "server.example:80" }), toSecure]
  ])("%s", ([, url, environment, asked]) =>
    Effect.gen(function*() {
      assert.strictEqual(yield* askedFor(url, environment), asked)
    }))

  it.live("does not matter with `proxy: false`, nor where an option names a proxy", () =>
    Effect.gen(function*() {
      const environment = (proxy: string) => ({ all_proxy: proxy })
      assert.isUndefined(yield* askedFor(plain, environment, { proxy: false }))
      const other = yield* startHttpProxy()
      assert.isUndefined(yield* askedFor("ws://127.0.0.1:1", environment, { proxy: other.url }))
      assert.deepStrictEqual(other.requests.map(({ target }) => target), ["127.0.0.1:1"])
    }))

  it.live("holds for the layer without options too", () =>
    Effect.gen(function*() {
      const { port, url } = yield* start(echo)
      const proxy = yield* startHttpProxy()
      const env = { http_proxy: proxy.url }
      yield* talk(url).pipe(
        Effect.provide(NodeWebSocketClient.layer),
        Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env }))
      )
      assert.deepStrictEqual(proxy.requests.map(({ target }) => target), [`127.0.0.1:${port}`])
    }))

  it.live("is an error only for who would have to use it: InvalidProxy", () =>
    Effect.gen(function*() {
      const { url } = yield* start(echo)
      const env = { http_proxy: "ftp://user:secret@127.0.0.1", no_proxy: "127.0.0.1" }
      const [, reason] = yield* Effect.all([talk(url), reasonOf(plain)]).pipe(
        withClient({}),
        Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env }))
      )
      assert.strictEqual(reason._tag, "InvalidProxy")
      assert.notInclude(JSON.stringify(reason), "secret")
    }))
})

describe("what is not a proxy is InvalidProxy, and nothing is sent", () => {
  it.live.each([
    "",
    "127.0.0.1:3128",
    "proxy.example",
    "ws://127.0.0.1:1",
    "socks4://127.0.0.1:1",
    "http://",
    "socks5://",
    "http://127.0.0.1:99999",
    "http://user:%E4@127.0.0.1:1",
    "http://us%3Aer:password@127.0.0.1:1",
    "http://user:pass%0Aword@127.0.0.1:1",
    `socks5h://${"u".repeat(256)}:password@127.0.0.1:1`,
    `socks5h://user:${"%C3%A4".repeat(128)}@127.0.0.1:1`
  ])("%j", (proxy) =>
    Effect.gen(function*() {
      const reason = yield* reasonOf("ws://server.example").pipe(withClient({ proxy }))
      assert.isTrue(reason._tag === "InvalidProxy" && reason.detail !== "", reason._tag)
    }))

  it.live("and a name that SOCKS cannot carry is not found: it has at most 255 bytes (RFC 1928, section 4)", () =>
    Effect.gen(function*() {
      const reason = yield* reasonOf(`ws://${"a".repeat(300)}`).pipe(
        withClient({ proxy: "socks5h://user:secret@127.0.0.1:1" })
      )
      assert.strictEqual(reason._tag, "HostNotFound")
      assert.notInclude(JSON.stringify(reason), "secret")
    }))

  it.live("and a request that cannot be made does not even reach the proxy: InvalidRequest", () =>
    Effect.gen(function*() {
      const proxy = yield* startHttpProxy()
      const options = { headers: { "x-y": "a\r\nx-z: b" } }
      const reason = yield* reasonOf("ws://127.0.0.1:1", options).pipe(withClient({ proxy: proxy.url }))
      assert.strictEqual(reason._tag, "InvalidRequest")
      assert.deepStrictEqual(proxy.requests, [])
    }))
})
