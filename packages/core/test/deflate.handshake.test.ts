import { type Compression, WebSocketClient } from "@effect-ws/core"
import { NodeCompression } from "@effect-ws/node"
import { TestNetwork, WebSocketProbe } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import { start } from "./fixture.ts"
import { echo, serve } from "./serverFixture.ts"

const { compression } = NodeCompression

describe("a server that is offered compression", () => {
  const answerTo = Effect.fnUntraced(function*(
    offer: string | ReadonlyArray<string> | undefined,
    deflate?: boolean | Compression.DeflateOptions
  ) {
    const { ask } = yield* serve(echo, { compression, deflate })
    const { headers, status } = yield* ask("/", { "Sec-WebSocket-Extensions": offer })
    assert.strictEqual(status, 101)
    return headers["sec-websocket-extensions"]
  })

  it.effect("does not take it by default", () =>
    Effect.gen(function*() {
      assert.isUndefined(yield* answerTo("permessage-deflate"))
      assert.isUndefined(yield* answerTo("permessage-deflate", false))
    }))

  it.effect("takes it when told to, without context takeover", () =>
    Effect.gen(function*() {
      const expected = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
      assert.strictEqual(yield* answerTo("permessage-deflate; client_max_window_bits", true), expected)
      assert.strictEqual(yield* answerTo("permessage-deflate", {}), expected)
    }))

  it.effect("is not compressed if it is offered nothing, or nothing that it can keep (§5.1)", () =>
    Effect.gen(function*() {
      assert.isUndefined(yield* answerTo(undefined, true))
      assert.isUndefined(yield* answerTo("permessage-deflate; server_max_window_bits=16", true))
    }))

  it.effect("reads offers in several lines as one list (RFC 6455 §9.1)", () =>
    Effect.gen(function*() {
      const offers = ["x-other, permessage-deflate; unknown", "permessage-deflate; server_max_window_bits=10"]
      assert.strictEqual(
        yield* answerTo(offers, { sending: { contextTakeover: true }, receiving: { contextTakeover: true } }),
        "permessage-deflate; server_max_window_bits=10"
      )
    }))
})

describe("a client that offers compression", () => {
  // What a server answers to an offer.
  const outcomeOf = Effect.fnUntraced(function*(
    response: string | undefined,
    deflate?: boolean | Compression.DeflateOptions
  ) {
    const nextRequest = yield* WebSocketProbe.listen()
    const connecting = yield* start(Effect.result(WebSocketClient.connect("ws://localhost", { deflate })))
    const { accept, headers } = yield* nextRequest
    const probe = yield* accept({ headers: { "Sec-WebSocket-Extensions": response } })
    return { offer: headers["sec-websocket-extensions"], result: yield* Fiber.join(connecting), probe }
  })
  const withNetwork = Effect.provide(
    Layer.provideMerge(TestNetwork.layerClient, TestNetwork.layerNetwork({ compression }))
  )

  it.effect("does so only when told to", () =>
    Effect.gen(function*() {
      assert.isUndefined((yield* Effect.scoped(outcomeOf(undefined))).offer)
      assert.isUndefined((yield* Effect.scoped(outcomeOf(undefined, false))).offer)
      assert.strictEqual(
        (yield* Effect.scoped(outcomeOf(undefined, true))).offer,
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"
      )
    }).pipe(withNetwork))

  it.effect("is connected without it when the server declines (§5.1)", () =>
    Effect.gen(function*() {
      const { probe, result } = yield* outcomeOf(undefined, true)
      if (result._tag === "Failure") return assert.fail(result.failure.message)
      assert.deepStrictEqual(result.success.extensions, [])
      yield* result.success.send("x".repeat(2000))
      yield* probe.expectText("x".repeat(2000))
    }).pipe(withNetwork))

  const wrong = [
    ["permessage-deflate", true],
    ["permessage-deflate; server_no_context_takeover; unknown", true],
    ["permessage-deflate; server_no_context_takeover; client_max_window_bits", true],
    ["permessage-deflate; server_no_context_takeover, permessage-deflate; server_no_context_takeover", true],
    ["permessage-deflate; server_max_window_bits=16", { receiving: { contextTakeover: true } }],
    ["permessage-deflate; server_max_window_bits=11", { receiving: { contextTakeover: true, windowBits: 10 } }]
  ] as const

  it.effect.each(wrong)(
    "%s is no answer to its offer: BadUpgrade, and the socket is dropped (§7.1)",
    ([response, deflate]) =>
      Effect.gen(function*() {
        const { probe, result } = yield* outcomeOf(response, deflate)
        const reason = result._tag === "Failure" ? result.failure.reason : undefined
        if (reason?._tag !== "BadUpgrade") return assert.fail(String(reason?._tag))
        assert.match(reason.detail, /RFC 7692|twice/)
        yield* probe.expectEnd
      }).pipe(withNetwork)
  )
})

describe("a platform without compression", () => {
  it.effect("does not agree on it as a server, whatever the options say", () =>
    Effect.gen(function*() {
      const { ask } = yield* serve(echo, { deflate: true })
      const { headers, status } = yield* ask("/", { "Sec-WebSocket-Extensions": "permessage-deflate" })
      assert.deepStrictEqual([status, headers["sec-websocket-extensions"]], [101, undefined])
    }))

  it.effect("does not offer it as a client, whatever the options say", () =>
    Effect.gen(function*() {
      const nextRequest = yield* WebSocketProbe.listen()
      yield* start(WebSocketClient.connect("ws://localhost", { deflate: true }))
      const { headers } = yield* nextRequest
      assert.isUndefined(headers["sec-websocket-extensions"])
    }).pipe(Effect.provide(Layer.provideMerge(TestNetwork.layerClient, TestNetwork.layerNetwork()))))
})
