import type { Connection, Message, WebSocketError } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Option, Queue, type Scope, Stream } from "effect"

/** The other side of a connection, played by another implementation of the protocol. */
export interface ForeignPeer {
  readonly subprotocol: Effect.Effect<string>
  readonly send: (message: Message.Message) => Effect.Effect<void>
  readonly receive: Effect.Effect<Message.Message>
  readonly close: (code: number, reason: string) => Effect.Effect<void>
  readonly closed: Effect.Effect<{ readonly code: number; readonly reason: string }>
}

/** A peer whose interface also reaches frames. */
export interface FramePeer extends ForeignPeer {
  /** Sends one message as fragments. */
  readonly sendFragments: (fragments: ReadonlyArray<Message.Message>) => Effect.Effect<void>
  /** Sends a Ping and waits for its Pong. */
  readonly ping: (payload: string) => Effect.Effect<void>
}

/** Both ends of one connection. */
export interface Pair<Peer extends ForeignPeer> {
  readonly peer: Peer
  readonly connection: Connection.Connection
}

/** Connects the two; `offered` are the client's subprotocols, `spoken` the server's. */
export type Open<Peer extends ForeignPeer> = (subprotocols: {
  readonly offered: ReadonlyArray<string>
  readonly spoken: ReadonlyArray<string>
}) => Effect.Effect<Pair<Peer>, unknown, Scope.Scope>

const none = { offered: [], spoken: [] }
const mebibyte = 1024 * 1024
const longText = "0123456789abcdef".repeat(mebibyte / 16)
const longBytes = Uint8Array.from({ length: mebibyte }, (_, i) => i * 7)

const messages: ReadonlyArray<readonly [name: string, message: Message.Message]> = [
  ["text", "κόσμε, 世界, 🌍"],
  ["binary", Uint8Array.of(0, 1, 127, 128, 255)],
  ["empty text", ""],
  ["empty binary", new Uint8Array(0)],
  ["1 MiB of text", longText],
  ["1 MiB of binary", longBytes]
]

const closes = [[1000, ""], [1000, "done"], [3000, "Grüße 🌍"], [4999, "x".repeat(123)]] as const

const unsupported = (call: Effect.Effect<unknown, WebSocketError.SendError>) =>
  Effect.map(Effect.flip(call), ({ reason }) => assert.strictEqual(reason._tag, "Unsupported"))

/** What has to work with every implementation. */
export const matrix = (name: string, open: Open<ForeignPeer>, options: { readonly skip?: boolean } = {}) =>
  describe.skipIf(options.skip)(name, () => {
    it.live.each(messages)("%s travels both ways (§5.6)", ([, message]) =>
      Effect.gen(function*() {
        const { connection, peer } = yield* open(none)
        yield* connection.send(message)
        assert.deepStrictEqual(yield* peer.receive, message)
        yield* peer.send(message)
        assert.deepStrictEqual(yield* connection.receive, message)
      }))

    it.live("messages keep their order both ways (§5.4)", () =>
      Effect.gen(function*() {
        const { connection, peer } = yield* open(none)
        const numbered = Array.from({ length: 200 }, (_, i) => i % 3 === 0 ? Uint8Array.of(i) : String(i))
        yield* Effect.all([
          connection.sendAll(numbered),
          Effect.forEach(numbered, peer.send, { discard: true })
        ], { concurrency: "unbounded" })
        for (const message of numbered) {
          assert.deepStrictEqual(yield* peer.receive, message)
          assert.deepStrictEqual(yield* connection.receive, message)
        }
      }))

    it.live("fragments that we send arrive as one message (§5.4)", () =>
      Effect.gen(function*() {
        const { connection, peer } = yield* open(none)
        if (!connection.capabilities.has("Fragments")) return yield* unsupported(connection.sendStream(Stream.make("")))
        yield* connection.sendStream(Stream.make("one, ", "", "two, ", "thr\ud83c", "\udf0dee"))
        assert.strictEqual(yield* peer.receive, "one, two, thr🌍ee")
        yield* connection.sendStream(Stream.make(Uint8Array.of(1, 2), Uint8Array.of(3)))
        assert.deepStrictEqual(yield* peer.receive, Uint8Array.of(1, 2, 3))
      }))

    it.live("our ping is answered, also between messages (§5.5.2)", () =>
      Effect.gen(function*() {
        const { connection, peer } = yield* open(none)
        if (!connection.capabilities.has("ControlFrames")) return yield* unsupported(connection.ping)
        yield* connection.send("before")
        yield* connection.ping
        yield* connection.send("after")
        assert.deepStrictEqual([yield* peer.receive, yield* peer.receive], ["before", "after"])
      }))

    it.live.each(closes)(
      "we close with %s %j, and the peer learns it (§7.1.5, §7.1.6)",
      ([code, reason]) =>
        Effect.gen(function*() {
          const { connection, peer } = yield* open(none)
          yield* connection.close(code, reason)
          assert.deepStrictEqual(yield* peer.closed, { code, reason })
          const event = yield* connection.closed
          // The reason in the peer's answer is the peer's affair.
          assert.deepStrictEqual({ ...event, reason }, { code, reason, wasClean: true, initiator: "Local" })
        })
    )

    it.live.each(closes)(
      "the peer closes with %s %j, and we learn it (§7.1.5, §7.1.6)",
      ([code, reason]) =>
        Effect.gen(function*() {
          const { connection, peer } = yield* open(none)
          yield* peer.close(code, reason)
          const event = yield* connection.closed
          assert.deepStrictEqual({ ...event }, { code, reason, wasClean: true, initiator: "Remote" })
          assert.strictEqual((yield* peer.closed).code, code)
        })
    )

    it.live("the subprotocol is one that both speak (§4.2.2)", () =>
      Effect.gen(function*() {
        const { connection, peer } = yield* open({ offered: ["v3.chat", "v2.chat"], spoken: ["v2.chat", "v1.chat"] })
        assert.strictEqual(yield* peer.subprotocol, "v2.chat")
        assert.deepStrictEqual(connection.subprotocol, Option.some("v2.chat"))
      }))
  })

/** What has to work with every implementation whose interface reaches frames. */
export const frameMatrix = (name: string, open: Open<FramePeer>, options: { readonly skip?: boolean } = {}) =>
  describe.skipIf(options.skip)(name, () => {
    it.live("fragments that the peer sends arrive as one message (§5.4)", () =>
      Effect.gen(function*() {
        const { connection, peer } = yield* open(none)
        yield* peer.sendFragments(["one, ", "", "two, ", "thr🌍ee"])
        assert.strictEqual(yield* connection.receive, "one, two, thr🌍ee")
        yield* peer.sendFragments([Uint8Array.of(1, 2), Uint8Array.of(3)])
        assert.deepStrictEqual(yield* connection.receive, Uint8Array.of(1, 2, 3))
      }))

    it.live("the peer's ping is answered with its payload, and observed (§5.5.3)", () =>
      Effect.gen(function*() {
        const { connection, peer } = yield* open(none)
        const observed = yield* connection.controls.pipe(Stream.runHead, Effect.forkChild({ startImmediately: true }))
        yield* peer.ping("are you there?")
        const { _tag, payload } = Option.getOrThrow(yield* Fiber.join(observed))
        assert.deepStrictEqual({ _tag, payload: new TextDecoder().decode(payload) }, {
          _tag: "Ping",
          payload: "are you there?"
        })
      }))
  })

/** An implementation with the interface of browsers. */
export const standardPeer = (socket: WebSocket): ForeignPeer => {
  const received = Effect.runSync(Queue.unbounded<Message.Message>())
  const closed = Deferred.makeUnsafe<{ readonly code: number; readonly reason: string }>()
  socket.binaryType = "arraybuffer"
  socket.addEventListener("message", ({ data }) => {
    Queue.offerUnsafe(received, typeof data === "string" ? data : new Uint8Array(data))
  })
  socket.addEventListener("close", ({ code, reason }) => {
    Deferred.doneUnsafe(closed, Effect.succeed({ code, reason }))
  })
  return {
    subprotocol: Effect.sync(() => socket.protocol),
    send: (message) => Effect.sync(() => socket.send(message as string | Uint8Array<ArrayBuffer>)),
    receive: Queue.take(received),
    close: (code, reason) => Effect.sync(() => socket.close(code, reason)),
    closed: Deferred.await(closed)
  }
}
