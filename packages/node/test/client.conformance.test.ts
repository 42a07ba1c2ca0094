import { type Transport, WebSocketClient } from "@effect-ws/core"
import { NodeTransport, NodeWebSocketClient } from "@effect-ws/node"
import { ClientHandshakeConformance, type ClientHandshakeRule, type Conformance } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Queue, type Scope, Stream } from "effect"
import * as Net from "node:net"
import * as Ws from "ws"
import { unhandledErrors } from "./fixture.ts"

type Connecting = ClientHandshakeRule.Connecting

// What is in a message, a foreign client may compress.
const failures = (results: ReadonlyArray<Conformance.Result>) =>
  results.flatMap((result) =>
    result._tag === "Failed"
      ? [`${result.rule.title}: ${result.detail.split("\n")[0]!.replace(/sent text.*/, "sent a message")}`]
      : []
  )

/** A port where clients connect to, whose sockets reset when they are destroyed. */
const listening = Effect.gen(function*() {
  const accepted = yield* Queue.unbounded<Transport.Transport>()
  const sockets = new Set<Net.Socket>()
  const server = yield* Effect.acquireRelease(
    Effect.callback<Net.Server>((resume) => {
      const server = Net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
        sockets.add(socket)
        const transport = NodeTransport.fromSocket(socket)
        // Node's own client also makes connections that it does not use.
        socket.once("readable", () => {
          if (socket.readableLength === 0) return socket.destroy()
          Queue.offerUnsafe(accepted, Object.assign(transport, { destroy: () => void socket.resetAndDestroy() }))
        })
      })
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.callback<void>((resume) => {
        for (const socket of sockets) socket.destroy()
        server.close(() => resume(Effect.void))
      })
  )
  const { port } = server.address() as Net.AddressInfo
  return { url: `ws://127.0.0.1:${port}`, accept: Queue.take(accepted) }
})

/** Holds a client against the rules: one that is started like this. */
const hold = Effect.fnUntraced(function*(
  start: (connecting: Connecting) => Effect.Effect<unknown, never, Scope.Scope>,
  options: { readonly hasLimits: boolean; readonly deflate: ReadonlyArray<boolean> }
) {
  const errors = yield* unhandledErrors
  const { accept, url } = yield* listening
  const results = yield* ClientHandshakeConformance.run(ClientHandshakeConformance.overTransport({
    ...options,
    url,
    open: (connecting) => Effect.andThen(start(connecting), accept)
  }))
  assert.deepStrictEqual(errors, [])
  assert.isAtLeast(results.filter(({ _tag }) => _tag === "Passed").length, 500)
  return failures(results)
})

const ours = ({ deflate, handshakeMillis, subprotocols, url }: Connecting) =>
  WebSocketClient.connect(url, {
    deflate,
    subprotocols,
    connectTimeout: handshakeMillis === undefined ? undefined : `${handshakeMillis} millis`
  }).pipe(
    Effect.tap((connection) => Effect.addFinalizer(() => connection.abort)),
    Effect.flatMap(({ messages, send }) => Stream.runForEach(messages, send)),
    Effect.ignore,
    Effect.provide(NodeWebSocketClient.layer),
    Effect.forkScoped
  )

const ws = ({ deflate, handshakeMillis, subprotocols, url }: Connecting) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const socket = new Ws.WebSocket(url, [...subprotocols], {
        perMessageDeflate: deflate,
        ...(handshakeMillis !== undefined && { handshakeTimeout: handshakeMillis })
      })
      socket.on("error", () => {})
      socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }))
      return socket
    }),
    (socket) => Effect.sync(() => socket.terminate())
  )

const undici = ({ subprotocols, url }: Connecting) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const socket = new WebSocket(url, [...subprotocols])
      socket.addEventListener("message", ({ data }) => socket.send(data))
      return socket
    }),
    (socket) => Effect.sync(() => socket.close())
  )

describe("conformance of clients in the opening handshake, over real sockets", () => {
  it.live("our client on Node keeps every rule, and leaves no error behind", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* hold(ours, { hasLimits: true, deflate: [false, true] }), [])
    }), 120_000)

  it.live("a foreign client is held against the rules too (ws)", () =>
    Effect.gen(function*() {
      // What `ws` is lenient about.
      const leniencies = [
        "permessage-deflate; server_max_window_bits=08 (RFC 7692, section 7.1): it sent a message",
        "permessage-deflate; server_max_window_bits=+9 (RFC 7692, section 7.1): it sent a message",
        "permessage-deflate; client_max_window_bits=08 (RFC 7692, section 7.1): it sent a message",
        "permessage-deflate; client_max_window_bits=+9 (RFC 7692, section 7.1): it sent a message",
        "permessage-deflate, permessage-deflate (RFC 7692, section 7.1): it sent a message",
        "101 in HTTP/1.0: the connection does not come to its end"
      ]
      assert.deepStrictEqual(
        yield* hold(ws, { hasLimits: true, deflate: [false, true] }),
        leniencies.map((each) => `refused: ${each}`)
      )
    }), 120_000)

  it.live("and so is Node's own (undici)", () =>
    Effect.gen(function*() {
      // What it is lenient about: it hardly looks at extensions.
      const leniencies = [
        ...["permessage-deflate;", "permessage-deflate; =", "permessage-deflate; a=\"b"].map((value) =>
          `extensions that are malformed: ${value}: it sent a message`
        ),
        ...ClientHandshakeConformance.rules["compressing"]!
          .filter(({ title }) => title.startsWith("refused: permessage-deflate;"))
          .map(({ title }) => `${title.slice("refused: ".length)}: it sent a message`),
        "101 in HTTP/1.0: the connection does not come to its end",
        "a megabyte of reason phrase: the connection does not come to its end"
      ]
      // It always offers permessage-deflate.
      assert.deepStrictEqual(yield* hold(undici, { hasLimits: false, deflate: [true] }), [
        ...[
          "Upgrade among the options of the connection",
          "options of the connection in two lines",
          "white space around values"
        ].map((each) => `taken: ${each}: expected a text message, but the other side has ended`),
        ...leniencies.map((each) => `refused: ${each}`)
      ])
    }), 120_000)
})
