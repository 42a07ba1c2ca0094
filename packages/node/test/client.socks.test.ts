import { WebSocketClient } from "@effect-ws/core"
import type { NodeWebSocketClient } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { unhandledErrors } from "./fixture.ts"
import { withClient } from "./proxies.ts"
import { listenRaw, type RawPeer, switching } from "./rawPeer.ts"

const reasonOf = (url: string, options?: WebSocketClient.ConnectOptions) =>
  WebSocketClient.connect(url, options).pipe(Effect.scoped, Effect.flip, Effect.map(({ reason }) => reason))

const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex")

/** Takes the client's greeting, and tells which methods of authentication it offers (RFC 1928, section 3). */
const greeted = Effect.fnUntraced(function*(peer: RawPeer) {
  const [version, count = 0] = yield* peer.bytes(2)
  assert.strictEqual(version, 5)
  return [...(yield* peer.bytes(count))]
})

/** Takes the client's request for an IPv4 address, and before it the greeting, which needs no authentication. */
const requested = Effect.fnUntraced(function*(peer: RawPeer) {
  yield* greeted(peer)
  yield* peer.send(hex("05 00"))
  return yield* peer.bytes(10)
})

const granted = hex("05 00 00 01 7f000001 0050")

/** Lets the client through. */
const admit = (peer: RawPeer) => Effect.andThen(requested(peer), peer.send(granted))

type Serve = (peer: RawPeer) => Effect.Effect<unknown, unknown>

/** Why connecting fails through a proxy that does this; its socket has to be gone after it, and no error unhandled. */
const failureBy = Effect.fnUntraced(function*(
  serve: Serve,
  { url = "ws://127.0.0.1", userinfo = "", ...options }: WebSocketClient.ConnectOptions & {
    readonly url?: string
    readonly userinfo?: string
  } = {}
) {
  const errors = yield* unhandledErrors
  const { accept, port } = yield* listenRaw
  const failing = yield* Effect.forkChild(
    reasonOf(url, options).pipe(withClient({ proxy: `socks5://${userinfo}127.0.0.1:${port}` }))
  )
  const peer = yield* accept
  const serving = yield* Effect.forkChild(Effect.orDie(serve(peer)))
  const reason = yield* Fiber.join(failing)
  yield* peer.rest
  yield* Fiber.interrupt(serving)
  assert.deepStrictEqual(errors, [])
  if ("proxy" in reason) assert.strictEqual(reason.proxy, `socks5://127.0.0.1:${port}`)
  assert.notInclude(JSON.stringify(reason), "secret")
  return reason
}, Effect.scoped)

describe("a client behind a SOCKS proxy (RFC 1928)", () => {
  /** What the client asks the proxy for. */
  const asked = Effect.fnUntraced(function*(
    scheme: string,
    url: string,
    length: number,
    options?: NodeWebSocketClient.Options
  ) {
    const { accept, port } = yield* listenRaw
    yield* Effect.forkChild(reasonOf(url).pipe(withClient({ proxy: `${scheme}://127.0.0.1:${port}`, ...options })))
    const peer = yield* accept
    assert.deepStrictEqual(yield* greeted(peer), [0])
    yield* peer.send(hex("05 00"))
    return (yield* peer.bytes(length)).toString("latin1")
  })
  const lookup: NodeWebSocketClient.Options["lookup"] = (host, options, callback) => {
    assert.deepStrictEqual([host, options.all], ["server.example", false])
    callback(null, "192.0.2.1", 4)
  }
  const name = "server.example"

  it.live("lets it look up the name with socks5h", () =>
    Effect.gen(function*() {
      const request = yield* asked("socks5h", `ws://${name}:258`, 7 + name.length, { lookup })
      assert.strictEqual(request, `\x05\x01\0\x03\x0e${name}\x01\x02`)
    }))

  it.live("looks up the name itself with socks5", () =>
    Effect.gen(function*() {
      const request = yield* asked("socks5", `wss://${name}`, 10, { lookup })
      assert.strictEqual(request, "\x05\x01\0\x01\xc0\0\x02\x01\x01\xbb")
    }))

  it.live("looks up the name with its own function alone, which may tell more than it is asked for", () =>
    Effect.gen(function*() {
      const request = yield* asked("socks5", `ws://${name}`, 10, {
        lookup: (_host, _options, callback) => callback(null, [{ address: "192.0.2.2", family: 4 }])
      })
      assert.strictEqual(request, "\x05\x01\0\x01\xc0\0\x02\x02\0\x50")
    }))

  it.live.each(["socks5", "socks5h"])("asks for an address as it is: %s", (scheme) =>
    Effect.gen(function*() {
      assert.strictEqual(yield* asked(scheme, "ws://192.0.2.3", 10), "\x05\x01\0\x01\xc0\0\x02\x03\0\x50")
      const ipv6 = yield* asked(scheme, "ws://[2001:db8::1]", 22)
      assert.strictEqual(ipv6, "\x05\x01\0\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\x50")
    }))

  it.live("does not reach the proxy with a name that has no address: HostNotFound", () =>
    Effect.gen(function*() {
      const cause = new Error("no such name")
      const reason = yield* reasonOf(`ws://${name}`).pipe(
        withClient({ proxy: "socks5://127.0.0.1:1", lookup: (_host, _options, callback) => callback(cause, []) })
      )
      assert.isTrue(reason._tag === "HostNotFound" && reason.host === name && reason.cause === cause)
    }))

  it.live("tells it the credentials of its URL, if it wants them (RFC 1929)", () =>
    Effect.gen(function*() {
      const { accept, port } = yield* listenRaw
      yield* Effect.forkChild(
        reasonOf("ws://127.0.0.1").pipe(withClient({ proxy: `socks5://%C3%84da:p%40ss@127.0.0.1:${port}` }))
      )
      const peer = yield* accept
      assert.deepStrictEqual(yield* greeted(peer), [0, 2])
      yield* peer.send(hex("05 02"))
      assert.strictEqual((yield* peer.bytes(11)).toString(), "\x01\x04Äda\x04p@ss")
      yield* peer.send(hex("01 00"))
      assert.strictEqual((yield* peer.bytes(10)).toString("latin1"), "\x05\x01\0\x01\x7f\0\0\x01\0\x50")
    }))

  it.live("takes an answer that comes byte by byte", () =>
    Effect.gen(function*() {
      const { accept, port } = yield* listenRaw
      yield* Effect.forkChild(reasonOf("ws://127.0.0.1").pipe(withClient({ proxy: `socks5://127.0.0.1:${port}` })))
      const peer = yield* accept
      yield* greeted(peer)
      for (const byte of hex("05 00")) yield* Effect.delay(peer.send(Uint8Array.of(byte)), "5 millis")
      yield* peer.bytes(10)
      // The proxy's own address may be a name.
      for (const byte of hex("05 00 00 03 01 61 0050")) yield* Effect.delay(peer.send(Uint8Array.of(byte)), "5 millis")
      assert.match(yield* peer.head, /^GET \/ HTTP\/1\.1\r\n/)
    }))
})

describe("a SOCKS proxy that", () => {
  it.live.each([1, 2, 3, 4, 5, 6, 7, 8])(
    "refuses with reply %s: ProxyRefused (section 6)",
    (code) =>
      Effect.gen(function*() {
        const reason = yield* failureBy((peer) =>
          Effect.andThen(requested(peer), peer.send(Uint8Array.of(5, code, 0, 1, 0, 0, 0, 0, 0, 0)))
        )
        if (reason._tag !== "ProxyRefused") return assert.fail(reason._tag)
        assert.strictEqual(reason.code, code)
        assert.match(reason.detail, new RegExp(`^SOCKS ${code}: [a-zA-Z ]+$`))
      })
  )

  it.live.each<readonly [name: string, userinfo: string, serve: Serve]>([
    ["has no method in common", "", (peer) => Effect.andThen(greeted(peer), peer.send(hex("05 ff")))],
    ["wants one that nobody offered", "", (peer) => Effect.andThen(greeted(peer), peer.send(hex("05 01")))],
    ["wants other credentials", "ada:secret@", (peer) =>
      Effect.gen(function*() {
        yield* greeted(peer)
        yield* peer.send(hex("05 02"))
        yield* peer.bytes(12)
        yield* peer.send(hex("01 01"))
      })]
  ])("%s: ProxyAuthenticationRequired (section 3)", ([, userinfo, serve]) =>
    Effect.gen(function*() {
      assert.strictEqual((yield* failureBy(serve, { userinfo }))._tag, "ProxyAuthenticationRequired")
    }))

  it.live.each<readonly [name: string, serve: Serve]>([
    ["speaks SOCKS 4", (peer) => Effect.andThen(greeted(peer), peer.send(hex("00 5a 0000 00000000")))],
    ["speaks HTTP", (peer) => Effect.andThen(greeted(peer), peer.send("HTTP/1.1 400 Bad Request\r\n\r\n"))],
    ["closes at once", (peer) => peer.end],
    [
      "closes in the middle of its greeting",
      (peer) => Effect.andThen(Effect.andThen(greeted(peer), peer.send(hex("05"))), peer.end)
    ],
    ["resets behind its greeting", (peer) => Effect.andThen(requested(peer), peer.reset)],
    ["closes behind its greeting", (peer) => Effect.andThen(requested(peer), peer.end)],
    [
      "closes in the middle of its reply",
      (peer) => Effect.andThen(Effect.andThen(requested(peer), peer.send(granted.subarray(0, 7))), peer.end)
    ],
    [
      "resets in the middle of its reply",
      (peer) => Effect.andThen(Effect.andThen(requested(peer), peer.send(granted.subarray(0, 7))), peer.reset)
    ],
    [
      "replies what is not SOCKS 5",
      (peer) => Effect.andThen(requested(peer), peer.send(hex("04 00 00 01 7f000001 0050")))
    ],
    [
      "replies with a code that nobody knows",
      (peer) => Effect.andThen(requested(peer), peer.send(hex("05 5b 00 01 7f000001 0050")))
    ],
    ["answers authentication more than once", (peer) =>
      Effect.gen(function*() {
        yield* greeted(peer)
        yield* peer.send(hex("05 02"))
        yield* peer.bytes(12)
        yield* peer.send(hex("01 00 01 00 01 01"))
      })]
  ])("%s: ProxyFailure", ([, serve]) =>
    Effect.gen(function*() {
      const reason = yield* failureBy(serve, { userinfo: "ada:secret@" })
      assert.isTrue(reason._tag === "ProxyFailure" && reason.detail !== "", reason._tag)
    }))

  it.live.each(["end", "reset"] as const)(
    "breaks off behind its reply: NetworkFailure (%s)",
    (way) =>
      Effect.gen(function*() {
        for (const url of ["ws://127.0.0.1", "wss://127.0.0.1"]) {
          const reason = yield* failureBy(
            (peer) => Effect.andThen(Effect.andThen(admit(peer), peer.bytes(1)), peer[way]),
            { url }
          )
          assert.strictEqual(reason._tag, "NetworkFailure")
        }
      })
  )

  it.live("passes on an answer of the server together with its own: nothing of it is lost", () =>
    Effect.gen(function*() {
      const reason = yield* failureBy((peer) =>
        Effect.andThen(requested(peer), peer.send(granted, "HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nnever"))
      )
      assert.isTrue(reason._tag === "UpgradeRejected" && reason.status === 403 && reason.body === "never")
    }))

  it.live.each<readonly [name: string, serve: Serve]>([
    ["says nothing", () => Effect.never],
    ["says nothing behind its greeting", requested],
    ["dribbles", (peer) =>
      Effect.andThen(
        requested(peer),
        Effect.forEach([...hex("05 00 00 03 ff"), ...Buffer.alloc(200)], (byte) =>
          Effect.delay(peer.send(Uint8Array.of(byte)), "5 millis"))
      )],
    ["says nothing behind its reply", admit]
  ])("%s: ConnectTimeout", ([, serve]) =>
    Effect.gen(function*() {
      assert.strictEqual((yield* failureBy(serve, { connectTimeout: "100 millis" }))._tag, "ConnectTimeout")
    }))
})

describe("interrupting connect behind a SOCKS proxy leaves no socket", () => {
  it.live.each<readonly [name: string, url: string, serve: Serve]>([
    ["before its greeting was read", "ws://127.0.0.1", () => Effect.void],
    ["before its answer", "ws://127.0.0.1", greeted],
    ["behind the greeting", "ws://127.0.0.1", requested],
    [
      "in the middle of its reply",
      "ws://127.0.0.1",
      (peer) => Effect.andThen(requested(peer), peer.send(granted.subarray(0, 6)))
    ],
    ["before the server's answer", "ws://127.0.0.1", (peer) => Effect.andThen(admit(peer), peer.head)],
    ["in the middle of the server's answer", "ws://127.0.0.1", (peer) =>
      Effect.andThen(
        admit(peer),
        Effect.flatMap(peer.head, (request) => peer.send(switching(request).slice(0, 40)))
      )],
    ["during the TLS handshake", "wss://127.0.0.1", (peer) => Effect.andThen(admit(peer), peer.bytes(1))]
  ])("%s", ([, url, serve]) =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const { accept, port } = yield* listenRaw
      const connecting = yield* Effect.forkChild(
        reasonOf(url).pipe(withClient({ proxy: `socks5://127.0.0.1:${port}` }))
      )
      const peer = yield* accept
      yield* serve(peer)
      yield* Fiber.interrupt(connecting)
      yield* peer.rest
      assert.deepStrictEqual(errors, [])
    }))

  it.live("while the name is looked up", () =>
    Effect.gen(function*() {
      const asked = Deferred.makeUnsafe<(cause: null, address: string, family: number) => void>()
      const connecting = yield* Effect.forkChild(
        reasonOf("ws://server.example").pipe(
          withClient({
            proxy: "socks5://127.0.0.1:1",
            lookup: (_host, _options, callback) => void Deferred.doneUnsafe(asked, Effect.succeed(callback))
          })
        )
      )
      const answer = yield* Deferred.await(asked)
      yield* Fiber.interrupt(connecting)
      // Too late, and for nobody.
      answer(null, "192.0.2.1", 4)
    }))
})
