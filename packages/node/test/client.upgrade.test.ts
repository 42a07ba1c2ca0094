import { WebSocketClient } from "@effect-ws/core"
import { NodeWebSocketClient } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import { connect, unhandledErrors } from "./fixture.ts"
import { closeFrame, closeOf, frame, listenRaw, type RawPeer, switching } from "./rawPeer.ts"

/** Reads the request and answers it with bytes made from it. */
const answer = (peer: RawPeer, respond: (request: string) => ReadonlyArray<Uint8Array | string>) =>
  Effect.flatMap(Effect.orDie(peer.head), (request) => peer.send(...respond(request)))

const accepting = (...behind: ReadonlyArray<Uint8Array>) => (request: string) => [switching(request), ...behind]

describe("a server that answers with something else than the upgrade (RFC 6455, section 4.1)", () => {
  const wrong: ReadonlyArray<readonly [name: string, respond: (request: string) => string]> = [
    [
      "a wrong accept",
      (request) => switching(request, { "Sec-WebSocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" })
    ],
    // In Node's parser, these are no upgrade.
    ["no Upgrade", (request) => switching(request, { Upgrade: undefined })],
    ["no Connection", (request) => switching(request, { Connection: undefined })],
    ["Connection without Upgrade", (request) => switching(request, { Connection: "keep-alive" })],
    [
      "neither Upgrade nor Connection",
      (request) => switching(request, { Upgrade: undefined, Connection: undefined })
    ],
    ["101 in HTTP/1.0, which has no such status", (request) => switching(request).replace("HTTP/1.1", "HTTP/1.0")],
    ["garbage instead of HTTP", () => "SSH-2.0-OpenSSH_9.2\r\n\r\n"],
    ["frames instead of HTTP", () => "\x81\x05hello"],
    ["a malformed header", (request) => switching(request, { "X Y": "z" })]
  ]

  it.live.each(wrong)("%s: BadUpgrade, and the socket is gone", ([, respond]) =>
    Effect.gen(function*() {
      const { accept, url } = yield* listenRaw
      const connecting = yield* Effect.forkChild(Effect.flip(connect(url)))
      const peer = yield* accept
      yield* answer(peer, (request) => [respond(request)])
      const { reason } = yield* Fiber.join(connecting)
      if (reason._tag !== "BadUpgrade") return assert.fail(reason._tag)
      assert.strictEqual(reason.section, "4.1")
      assert.isAbove(reason.detail.length, 0)
      assert.strictEqual((yield* peer.rest).length, 0)
    }))
})

describe("what the server sees of the client", () => {
  it.live("is the request of section 4.1, with what was asked for", () =>
    Effect.gen(function*() {
      const { accept, port, url } = yield* listenRaw
      yield* connect(`${url}/a/b?c=d`, {
        headers: { "Authorization": "Bearer t", "Host": "elsewhere", "Sec-WebSocket-Version": "8" },
        subprotocols: ["v1", "v2"]
      }).pipe(Effect.forkChild)
      const [start, ...lines] = (yield* (yield* accept).head).trimEnd().split("\r\n")
      assert.strictEqual(start, "GET /a/b?c=d HTTP/1.1")
      const key = /^sec-websocket-key: (.*)$/m.exec(lines.join("\n"))?.[1] ?? ""
      assert.strictEqual(Buffer.from(key, "base64").length, 16)
      assert.deepStrictEqual(lines.toSorted(), [
        "authorization: Bearer t",
        "connection: Upgrade",
        `host: 127.0.0.1:${port}`,
        `sec-websocket-key: ${key}`,
        "sec-websocket-protocol: v1, v2",
        "sec-websocket-version: 13",
        "upgrade: websocket"
      ])
    }))

  it.live("frames are masked, each with a key of its own (section 5.3)", () =>
    Effect.gen(function*() {
      const { accept, url } = yield* listenRaw
      const connecting = yield* Effect.forkChild(connect(url))
      const peer = yield* accept
      yield* answer(peer, accepting())
      const connection = yield* Fiber.join(connecting)
      yield* connection.sendAll(["same", "same", "same"])
      const keys = new Set<string>()
      for (let i = 0; i < 3; i++) {
        const bytes = yield* peer.bytes(10)
        assert.deepStrictEqual([...bytes.subarray(0, 2)], [0x81, 0x84])
        keys.add(bytes.subarray(2, 6).toString("hex"))
      }
      assert.strictEqual(keys.size, 3)
    }))
})

describe("bytes behind the 101", () => {
  it.live("in the same packet are the first frames", () =>
    Effect.gen(function*() {
      const { accept, url } = yield* listenRaw
      const connecting = yield* Effect.forkChild(connect(url))
      const peer = yield* accept
      yield* answer(
        peer,
        accepting(
          frame("text", "one", { masked: false }),
          frame("text", "two", { masked: false }),
          frame("ping", "p", { masked: false })
        )
      )
      const connection = yield* Fiber.join(connecting)
      assert.deepStrictEqual([yield* connection.receive, yield* connection.receive], ["one", "two"])
      const pong = yield* peer.frame
      assert.deepStrictEqual([pong.opcode, pong.masked, pong.payload.toString()], [10, true, "p"])
    }))

  it.live("may be a Close, and all there is", () =>
    Effect.gen(function*() {
      const { accept, url } = yield* listenRaw
      const connecting = yield* Effect.forkChild(connect(url))
      const peer = yield* accept
      yield* answer(peer, accepting(closeFrame(4000, "full", { masked: false })))
      yield* peer.end
      const connection = yield* Fiber.join(connecting)
      const { code, initiator, reason, wasClean } = yield* connection.closed
      assert.deepStrictEqual([code, reason, wasClean, initiator], [4000, "full", true, "Remote"])
      assert.deepStrictEqual(closeOf(yield* peer.frame)?.code, 4000)
    }))

  it.live("may be broken: the server is told 1002 (section 5.1)", () =>
    Effect.gen(function*() {
      const { accept, url } = yield* listenRaw
      const connecting = yield* Effect.forkChild(connect(url))
      const peer = yield* accept
      yield* answer(peer, accepting(frame("text", "masked by a server")))
      const connection = yield* Fiber.join(connecting)
      assert.strictEqual(closeOf(yield* peer.frame)?.code, 1002)
      yield* peer.end
      const error = yield* Effect.flip(connection.receive)
      assert.strictEqual(error._tag === "ConnectionError" && error.reason._tag, "ProtocolError")
    }))
})

describe("a server that resets", () => {
  it.live.each(["end", "reset"] as const)(
    "after any number of bytes of its 101 is an error, not a crash (%s)",
    (way) =>
      Effect.gen(function*() {
        const errors = yield* unhandledErrors
        const { accept, url } = yield* listenRaw
        // Headers that Node's parser takes one by one; the length is the same for every key.
        const { length } = switching("")
        for (let count = 0; count < length; count++) {
          const connecting = yield* Effect.forkChild(Effect.flip(connect(url)))
          const peer = yield* accept
          yield* answer(peer, (request) => [switching(request).slice(0, count)])
          yield* peer[way]
          assert.strictEqual((yield* Fiber.join(connecting)).reason._tag, "NetworkFailure", `${count} bytes`)
        }
        assert.deepStrictEqual(errors, [])
      })
  )

  it.live.each(["end", "reset"] as const)("behind its 101 is a lost connection (%s)", (way) =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const { accept, url } = yield* listenRaw
      const connecting = yield* Effect.forkChild(connect(url))
      const peer = yield* accept
      yield* answer(peer, accepting())
      const connection = yield* Fiber.join(connecting)
      yield* peer[way]
      const error = yield* Effect.flip(connection.receive)
      assert.strictEqual(error._tag === "ConnectionError" && error.reason._tag, "ConnectionLost")
      assert.strictEqual((yield* connection.closed).code, 1006)
      assert.deepStrictEqual(errors, [])
    }))
})

describe("interrupting connect leaves no socket", () => {
  const stages: ReadonlyArray<readonly [name: string, serve: (peer: RawPeer) => Effect.Effect<unknown>]> = [
    ["before the request was read", () => Effect.void],
    ["before the response", (peer) => Effect.orDie(peer.head)],
    ["in the middle of the response", (peer) => answer(peer, (request) => [switching(request).slice(0, 40)])],
    ["after an informational response", (peer) => answer(peer, () => ["HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"])],
    ["in the middle of a rejection", (peer) => answer(peer, () => ["HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nabc"])]
  ]

  it.live.each(stages)("%s", ([, serve]) =>
    Effect.gen(function*() {
      const { accept, url } = yield* listenRaw
      const connecting = yield* Effect.forkChild(connect(url))
      const peer = yield* accept
      yield* serve(peer)
      yield* Fiber.interrupt(connecting)
      yield* peer.rest
    }))

  it.live("at the very start", () =>
    Effect.gen(function*() {
      const { url } = yield* listenRaw
      const connecting = yield* Effect.forkChild(connect(url), { startImmediately: true })
      yield* Fiber.interrupt(connecting)
      const exit = yield* Fiber.await(connecting)
      assert.isTrue(Exit.isFailure(exit))
    }))

  it.live("after it, closing the scope does: with 1001 (section 7.4.1)", () =>
    Effect.gen(function*() {
      const { accept, url } = yield* listenRaw
      const living = yield* WebSocketClient.connect(url).pipe(
        Effect.andThen(Effect.never),
        Effect.provide(NodeWebSocketClient.layer),
        Effect.scoped,
        Effect.forkChild
      )
      const peer = yield* accept
      yield* answer(peer, accepting(frame("ping", "up?", { masked: false })))
      // The client answers, so the connection exists.
      assert.strictEqual((yield* peer.frame).payload.toString(), "up?")
      const interrupting = yield* Effect.forkChild(Fiber.interrupt(living))
      assert.strictEqual(closeOf(yield* peer.frame)?.code, 1001)
      yield* peer.send(closeFrame(1001, "", { masked: false }))
      yield* peer.end
      yield* peer.rest
      yield* Fiber.join(interrupting)
    }))
})
