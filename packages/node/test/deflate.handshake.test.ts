import { type Compression, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import * as ServerRuntime from "@effect-ws/core/ServerRuntime"
import { TestLink } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer } from "effect"
import { createHash } from "node:crypto"
import { connect, echo, start } from "./fixture.ts"
import { connectRaw, frame, listenRaw, openingRequest, sampleKey } from "./rawPeer.ts"

const headerIn = (head: string): string | undefined => /^sec-websocket-extensions: (.*)\r$/im.exec(head)?.[1]

const sha1 = (bytes: Uint8Array) => createHash("sha1").update(bytes).digest()

describe("a server that is offered compression", () => {
  const answerTo = Effect.fnUntraced(function*(
    offer: string | ReadonlyArray<string> | undefined,
    deflate?: boolean | Compression.DeflateOptions
  ) {
    const { port } = yield* start(echo, { deflate })
    const peer = yield* connectRaw(port)
    yield* peer.send(openingRequest({ headers: { "Sec-WebSocket-Extensions": offer } }))
    const head = yield* peer.head
    assert.match(head, /^HTTP\/1.1 101 /)
    return headerIn(head)
  })

  it.live("does not take it by default", () =>
    Effect.gen(function*() {
      assert.isUndefined(yield* answerTo("permessage-deflate"))
      assert.isUndefined(yield* answerTo("permessage-deflate", false))
    }))

  it.live("takes it when told to, without context takeover", () =>
    Effect.gen(function*() {
      const expected = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
      assert.strictEqual(yield* answerTo("permessage-deflate; client_max_window_bits", true), expected)
      assert.strictEqual(yield* answerTo("permessage-deflate", {}), expected)
    }))

  it.live("is not compressed if it is offered nothing, or nothing that it can keep (§5.1)", () =>
    Effect.gen(function*() {
      assert.isUndefined(yield* answerTo(undefined, true))
      assert.isUndefined(yield* answerTo("permessage-deflate; server_max_window_bits=16", true))
    }))

  it.live("reads offers in several lines as one list (RFC 6455 §9.1)", () =>
    Effect.gen(function*() {
      const offers = ["x-other, permessage-deflate; unknown", "permessage-deflate; server_max_window_bits=10"]
      assert.strictEqual(
        yield* answerTo(offers, { sending: { contextTakeover: true }, receiving: { contextTakeover: true } }),
        "permessage-deflate; server_max_window_bits=10"
      )
    }))

  it.live("takes frames that come together with the request", () =>
    Effect.gen(function*() {
      const { port } = yield* start(echo, { deflate: true })
      const peer = yield* connectRaw(port)
      yield* peer.send(
        openingRequest({ headers: { "Sec-WebSocket-Extensions": "permessage-deflate" } }),
        frame("text", Buffer.from("f248cdc9c90700", "hex"), { rsv: 4 })
      )
      yield* peer.head
      assert.strictEqual((yield* peer.frame).payload.toString(), "Hello")
    }))
})

describe("a client that offers compression", () => {
  // What a server answers to an offer.
  const outcomeOf = Effect.fnUntraced(function*(
    response: string | undefined,
    deflate?: boolean | Compression.DeflateOptions
  ) {
    const { accept, url } = yield* listenRaw
    const connecting = yield* Effect.forkChild(Effect.result(connect(url, { deflate })))
    const peer = yield* accept
    const head = yield* peer.head
    const key = /^sec-websocket-key: (.*)\r$/im.exec(head)?.[1]
    const digest = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64")
    yield* peer.send(
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
        `Sec-WebSocket-Accept: ${digest}\r\n` +
        (response === undefined ? "\r\n" : `Sec-WebSocket-Extensions: ${response}\r\n\r\n`)
    )
    return { offer: headerIn(head), result: yield* Fiber.join(connecting), peer }
  })

  it.live("does so only when told to", () =>
    Effect.gen(function*() {
      assert.isUndefined((yield* outcomeOf(undefined)).offer)
      assert.isUndefined((yield* outcomeOf(undefined, false)).offer)
      assert.strictEqual(
        (yield* outcomeOf(undefined, true)).offer,
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"
      )
    }))

  it.live("is connected without it when the server declines (§5.1)", () =>
    Effect.gen(function*() {
      const { peer, result } = yield* outcomeOf(undefined, true)
      if (result._tag === "Failure") return assert.fail(result.failure.message)
      assert.deepStrictEqual(result.success.extensions, [])
      yield* result.success.send("x".repeat(2000))
      assert.strictEqual((yield* peer.frame).payload.length, 2000)
    }))

  const wrong = [
    ["permessage-deflate", true],
    ["permessage-deflate; server_no_context_takeover; unknown", true],
    ["permessage-deflate; server_no_context_takeover; client_max_window_bits", true],
    ["permessage-deflate; server_no_context_takeover, permessage-deflate; server_no_context_takeover", true],
    ["permessage-deflate; server_max_window_bits=16", { receiving: { contextTakeover: true } }],
    ["permessage-deflate; server_max_window_bits=11", { receiving: { contextTakeover: true, windowBits: 10 } }]
  ] as const

  it.live.each(wrong)(
    "%s is no answer to its offer: BadUpgrade, and the socket is gone (§7.1)",
    ([response, deflate]) =>
      Effect.gen(function*() {
        const { peer, result } = yield* outcomeOf(response, deflate)
        const reason = result._tag === "Failure" ? result.failure.reason : undefined
        if (reason?._tag !== "BadUpgrade") return assert.fail(String(reason?._tag))
        assert.match(reason.detail, /RFC 7692|twice/)
        assert.strictEqual((yield* peer.rest).length, 0)
      })
  )
})

describe("a platform without compression", () => {
  it.effect("does not agree on it as a server, whatever the options say", () =>
    Effect.gen(function*() {
      const address = { _tag: "Tcp", host: "127.0.0.1", port: 1 } as const
      const { server, upgrade } = yield* ServerRuntime.make({ address, sha1, deflate: true })
      yield* Layer.build(Layer.provide(echo, Layer.succeed(WebSocketServer.WebSocketServer, server)))
      const accepted = yield* Deferred.make<unknown>()
      const { server: transport } = yield* TestLink.make()
      upgrade({
        method: "GET",
        httpVersion: "1.1",
        url: "/",
        headers: {
          "host": "127.0.0.1",
          "upgrade": "websocket",
          "connection": "Upgrade",
          "sec-websocket-key": sampleKey,
          "sec-websocket-version": "13",
          "sec-websocket-extensions": "permessage-deflate"
        },
        rawHeaders: [],
        peerAddress: undefined,
        localAddress: undefined,
        tls: undefined,
        accept: (headers) => {
          Deferred.doneUnsafe(accepted, Effect.succeed(headers["sec-websocket-extensions"]))
          return transport
        },
        reject: ({ body }) => Deferred.doneUnsafe(accepted, Effect.succeed(body)),
        abandon: () => {},
        onLost: () => () => {}
      })
      assert.isUndefined(yield* Deferred.await(accepted))
      transport.destroy()
    }))

  it.effect("does not offer it as a client, whatever the options say", () =>
    Effect.gen(function*() {
      const headers: Array<unknown> = []
      const client = yield* WebSocketClient.make({
        open: (request) => {
          headers.push(request.headers["sec-websocket-extensions"])
          return Effect.never
        },
        randomFill: () => {},
        sha1
      })
      yield* Effect.forkChild(client.connect("ws://localhost", { deflate: true }), { startImmediately: true })
      assert.deepStrictEqual(headers, [undefined])
    }))
})
