import { WebSocketClient } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, type Duration, Effect, Exit, Scope } from "effect"
import * as Tls from "node:tls"
import { certificates } from "./certificates.ts"
import { echo, handOver, start, unhandledErrors, withTlsClient } from "./fixture.ts"
import {
  brokenRecord,
  carrierOf,
  connectRaw,
  connectTls,
  listenRaw,
  openingRequest,
  type RawPeer,
  response,
  upgradeTls
} from "./rawPeer.ts"

/** The first bytes of a TLS client: a whole ClientHello. */
const clientHello = Effect.gen(function*() {
  const listening = yield* listenRaw
  yield* Effect.acquireRelease(
    Effect.sync(() => Tls.connect({ port: listening.port, host: "127.0.0.1" }).on("error", () => {})),
    (socket) => Effect.sync(() => socket.destroy())
  )
  const peer = yield* listening.accept
  const header = yield* peer.bytes(5)
  return Buffer.concat([header, yield* peer.bytes(header.readUInt16BE(3))])
}).pipe(Effect.scoped)

/** A server over TLS that serves one more client, when the test is done with it, as if nothing had happened. */
const attacked = Effect.fnUntraced(function*(options: { readonly handshakeTimeout: Duration.Input }) {
  const { authority, server: tls } = yield* certificates
  const errors = yield* unhandledErrors
  const { port, server, url } = yield* start(echo, { tls, ...options })
  const isUnharmed = Effect.gen(function*() {
    const connection = yield* WebSocketClient.connect(url)
    yield* connection.send("hello")
    assert.strictEqual(yield* connection.receive, "hello")
    assert.strictEqual((yield* server.connections).length, 1)
    assert.deepStrictEqual(errors, [])
  }).pipe(Effect.scoped, withTlsClient({ ca: authority.cert }))
  return { port, isUnharmed }
})

const patient = { handshakeTimeout: "1 minute" } as const
const hasty = { handshakeTimeout: "1 second" } as const

/** Sends something over TLS; what it gives sends a broken record behind it, and waits for the end. */
const sendOverTls = Effect.fnUntraced(function*(port: number, text: string) {
  const raw = yield* connectRaw(port)
  const secure = Tls.connect({ socket: carrierOf(raw), rejectUnauthorized: false })
  secure.on("error", () => {}).write(text)
  return Effect.andThen(raw.send(brokenRecord), raw.rest)
})

/** What a client sends that knows nothing of TLS. */
const nonsense: ReadonlyArray<readonly [name: string, bytes: string | Uint8Array]> = [
  ["a plain opening request", openingRequest()],
  ["plain HTTP", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"],
  ["zeros", new Uint8Array(100_000)],
  ["text", "what is this? ".repeat(10_000)],
  ["a TLS record of an unknown type", Buffer.from("99030300050102030405", "hex")],
  ["a TLS record that is too long", Buffer.from("160301ffff".padEnd(200_000, "0"), "hex")],
  ["a TLS alert", Buffer.from("15030300020228", "hex")],
  ["a ClientHello of version 2", Buffer.from("802e0100020015000000100100800200800300".padEnd(96, "0"), "hex")]
]

/** How a client goes away. */
const ways: ReadonlyArray<readonly [name: string, way: (peer: RawPeer) => Effect.Effect<unknown>]> = [
  ["ends what it sends", (peer) => Effect.andThen(peer.end, peer.rest)],
  ["resets the connection", (peer) => peer.reset]
]

describe("a client that reaches a TLS port", () => {
  it.live.each(nonsense)("with %s is dropped at once, and harms nobody", ([, bytes]) =>
    Effect.gen(function*() {
      const { isUnharmed, port } = yield* attacked(patient)
      const peer = yield* connectRaw(port)
      yield* peer.send(bytes)
      // An alert at most, and never an HTTP response.
      assert.notInclude((yield* peer.rest).toString(), "HTTP")
      yield* isUnharmed
    }))

  it.live("and says nothing is dropped after the handshake timeout", () =>
    Effect.gen(function*() {
      const { isUnharmed, port } = yield* attacked(hasty)
      const peer = yield* connectRaw(port)
      assert.strictEqual((yield* peer.rest).length, 0)
      yield* isUnharmed
    }))

  it.live("and stops in its ClientHello is dropped after the handshake timeout", () =>
    Effect.gen(function*() {
      const hello = yield* clientHello
      const { isUnharmed, port } = yield* attacked(hasty)
      const peer = yield* connectRaw(port)
      yield* peer.send(hello.subarray(0, hello.length / 2))
      assert.strictEqual((yield* peer.rest).length, 0)
      yield* isUnharmed
    }))

  it.live("and dribbles its ClientHello is dropped after the handshake timeout", () =>
    Effect.gen(function*() {
      const hello = yield* clientHello
      const { isUnharmed, port } = yield* attacked(hasty)
      const peer = yield* connectRaw(port)
      const dribble = Effect.forEach(hello, (byte) => Effect.delay(peer.send(Uint8Array.of(byte)), "10 millis"))
      yield* Effect.forkChild(dribble)
      assert.strictEqual((yield* peer.rest).length, 0)
      yield* isUnharmed
    }))

  it.live("and stops after its ClientHello is dropped after the handshake timeout", () =>
    Effect.gen(function*() {
      const hello = yield* clientHello
      const { isUnharmed, port } = yield* attacked(hasty)
      const peer = yield* connectRaw(port)
      yield* peer.send(hello)
      // The ServerHello.
      assert.strictEqual((yield* peer.rest)[0], 0x16)
      yield* isUnharmed
    }))

  it.live("and stops after the TLS handshake is answered 408 after the handshake timeout", () =>
    Effect.gen(function*() {
      const { isUnharmed, port } = yield* attacked(hasty)
      const peer = yield* connectTls(port)
      yield* peer.send(openingRequest().slice(0, 40))
      assert.strictEqual((yield* response(peer)).status, 408)
      yield* isUnharmed
    }))

  it.live.each(ways)("and %s, whenever it does, harms nobody", ([, way]) =>
    Effect.gen(function*() {
      const hello = yield* clientHello
      const { isUnharmed, port } = yield* attacked(patient)
      for (const length of [0, 1, 5, 100, hello.length - 1, hello.length]) {
        const peer = yield* connectRaw(port)
        if (length > 0) yield* peer.send(hello.subarray(0, length))
        if (length === hello.length) yield* peer.bytes(1)
        yield* way(peer)
      }
      yield* isUnharmed
    }))

  it.live("in great numbers, however far they come, harms nobody", () =>
    Effect.gen(function*() {
      const hello = yield* clientHello
      const { isUnharmed, port } = yield* attacked(patient)
      const attack = Effect.fnUntraced(function*(i: number) {
        const peer = yield* connectRaw(port)
        yield* peer.send(i % 3 === 0 ? "nonsense" : hello.subarray(0, i % hello.length || 1))
        yield* i % 2 === 0 ? peer.reset : Effect.andThen(peer.end, peer.rest)
      }, Effect.scoped)
      yield* Effect.forEach(Array.from({ length: 500 }, (_, i) => i), attack, { concurrency: 100, discard: true })
      yield* isUnharmed
    }))

  it.live("and breaks a TLS record later is a lost connection at once (RFC 6455, section 7.1.5)", () =>
    Effect.gen(function*() {
      const { server: tls } = yield* certificates
      const errors = yield* unhandledErrors
      const { accept, serving } = yield* handOver()
      const { port } = yield* start(serving, { tls, heartbeat: false })
      const breakRecord = yield* sendOverTls(port, openingRequest())
      const connection = yield* accept
      yield* breakRecord
      const error = yield* Effect.flip(connection.receive)
      assert.strictEqual(error._tag === "ConnectionError" && error.reason._tag, "ConnectionLost")
      assert.deepStrictEqual(errors, [])
    }))

  it.live("and renegotiates again and again is a lost connection (RFC 5746)", () =>
    Effect.gen(function*() {
      const { server: tls } = yield* certificates
      const errors = yield* unhandledErrors
      const { accept, serving } = yield* handOver()
      const { port } = yield* start(serving, { tls: { ...tls, maxVersion: "TLSv1.2" }, heartbeat: false })
      const peer = yield* upgradeTls(port)
      const connection = yield* accept
      const renegotiate = () => (peer.socket as Tls.TLSSocket).renegotiate({}, (error) => error || renegotiate())
      renegotiate()
      const error = yield* Effect.flip(connection.receive)
      assert.strictEqual(error._tag === "ConnectionError" && error.reason._tag, "ConnectionLost")
      yield* peer.rest
      assert.deepStrictEqual(errors, [])
    }))

  it.live("and breaks a TLS record amid its request is dropped at once, and harms nobody", () =>
    Effect.gen(function*() {
      const { isUnharmed, port } = yield* attacked(patient)
      yield* Effect.flatten(sendOverTls(port, openingRequest().slice(0, 40)))
      yield* isUnharmed
    }))

  it.live("and breaks a TLS record before it is answered is dropped at once", () =>
    Effect.gen(function*() {
      const { server: tls } = yield* certificates
      const errors = yield* unhandledErrors
      const asked = yield* Deferred.make<void>()
      const dropped = yield* Deferred.make<void>()
      const handshake = () =>
        Deferred.succeed(asked, undefined).pipe(
          Effect.andThen(Effect.never),
          Effect.onInterrupt(() => Deferred.succeed(dropped, undefined))
        )
      const { serving } = yield* handOver({ handshake })
      const { port } = yield* start(serving, { tls, ...patient })
      const breakRecord = yield* sendOverTls(port, openingRequest())
      yield* Deferred.await(asked)
      yield* breakRecord
      yield* Deferred.await(dropped)
      assert.deepStrictEqual(errors, [])
    }))
})

describe("the release of a server over TLS", () => {
  it.live("does not wait for handshakes that are under way, whatever their stage", () =>
    Effect.gen(function*() {
      const { server: tls } = yield* certificates
      const hello = yield* clientHello
      const scope = yield* Scope.make()
      const { port } = yield* Scope.provide(start(echo, { tls, closeTimeout: "100 millis", ...patient }), scope)
      const silent = yield* connectRaw(port)
      const halfway = yield* connectRaw(port)
      yield* halfway.send(hello)
      yield* halfway.bytes(1)
      const secure = yield* connectTls(port)
      yield* secure.send("GET / HTTP/1.1\r\n")
      const upgraded = yield* upgradeTls(port)
      yield* Scope.close(scope, Exit.void)
      yield* Effect.all([silent.rest, halfway.rest, secure.rest, upgraded.rest])
    }))
})
