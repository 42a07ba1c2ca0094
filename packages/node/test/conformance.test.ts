import type { Transport } from "@effect-ws/core"
import { NodeTransport } from "@effect-ws/node"
import { Conformance, HandshakeConformance, type HandshakeRule } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Record, type Scope } from "effect"
import * as Http from "node:http"
import * as Net from "node:net"
import * as Ws from "ws"
import { echo, recordLogs, start, unhandledErrors } from "./fixture.ts"
import { frame, sampleKey, upgradeRaw } from "./rawPeer.ts"

/** Any server that echoes, by its URL. */
const endpointAt = (url: string): Conformance.Endpoint => ({
  role: "server",
  hasLimits: false,
  open: (_limits, deflate) =>
    Effect.callback((resume) => {
      const request = Http.request(url, {
        agent: false,
        headers: {
          upgrade: "websocket",
          connection: "Upgrade",
          "sec-websocket-version": "13",
          "sec-websocket-key": sampleKey,
          ...(deflate ? { "sec-websocket-extensions": "permessage-deflate" } : {})
        }
      })
      request.on("upgrade", (_response, socket, head) => resume(Effect.succeed(NodeTransport.fromSocket(socket, head))))
      request.end()
    })
})

const failures = (results: ReadonlyArray<Conformance.Result>) =>
  results.flatMap((result) => result._tag === "Failed" ? [`${result.rule.title}: ${result.detail.split("\n")[0]}`] : [])

describe("conformance over real sockets", () => {
  it.live(
    "our server on Node keeps every rule and withstands every attack, and nobody else is harmed",
    () =>
      Effect.gen(function*() {
        const errors = yield* unhandledErrors
        const { port, url } = yield* start(echo, { deflate: true })
        const other = yield* upgradeRaw(port)
        const endpoint = endpointAt(url.replace("ws:", "http:"))
        const results = yield* Conformance.run(endpoint)
        assert.deepStrictEqual(failures(results), [])
        assert.isAtLeast(results.filter(({ _tag }) => _tag === "Passed").length, 200)
        // The limits that these suppose are the defaults.
        const attacked = yield* Conformance.run({ ...endpoint, hasLimits: true, hasDeflate: true }, Conformance.attacks)
        assert.deepStrictEqual(failures(attacked), [])
        assert.isTrue(attacked.every(({ _tag }) => _tag === "Passed"))
        yield* other.send(frame("text", "still there?"))
        assert.strictEqual((yield* other.frame).payload.toString(), "still there?")
        assert.deepStrictEqual(errors, [])
      }),
    60_000
  )

  it.live(
    "our server on Node keeps every rule of the opening handshake, and nobody leaves an error behind",
    () =>
      Effect.gen(function*() {
        const errors = yield* unhandledErrors
        const { layer, logs } = recordLogs()
        const { port, server, url } = yield* Effect.provide(start(echo), layer)
        const endpoint = handshakesAt(url, ({ handshakeMillis }) =>
          handshakeMillis === undefined
            ? Effect.succeed(port)
            : Effect.map(start(echo, { handshakeTimeout: handshakeMillis }), ({ port }) => port))
        const results = yield* HandshakeConformance.run({ ...endpoint, hasLimits: true }, strict)
        assert.deepStrictEqual(failures(results), [])
        assert.isTrue(results.every(({ _tag }) => _tag === "Passed"))
        assert.isAtLeast(results.length, 300)
        assert.deepStrictEqual([errors, logs], [[], []])
        assert.isAtMost((yield* server.connections).length, 1)
      }),
    60_000
  )

  it.live("a foreign server is held against the rules too (ws)", () =>
    Effect.gen(function*() {
      const port = yield* startWs
      const results = yield* Conformance.run(
        endpointAt(`http://127.0.0.1:${port}`),
        { closing: Conformance.rules["closing"]!, fragmentation: Conformance.rules["fragmentation"]! }
      )
      assert.deepStrictEqual(failures(results), [])
      assert.isAtLeast(results.filter(({ _tag }) => _tag === "Passed").length, 60)
      const { leaving, opening } = HandshakeConformance.rules
      const handshakes = yield* HandshakeConformance.run(
        handshakesAt(`ws://127.0.0.1:${port}`, () => Effect.succeed(port)),
        { leaving: leaving!, opening: opening! }
      )
      // What `ws` is lenient about. Origins it leaves to its user.
      assert.deepStrictEqual(failures(handshakes), [
        "accepted: websocket among what the client can speak: the status is 400, not 101",
        "refused: HTTP/1.0: the status is 101, not 426 or 400 or 505",
        "refused: no Host: the status is 101, not 400",
        "refused: an empty Host: the status is 101, not 400",
        "refused: two Hosts: the status is 101, not 400",
        "refused: a Host that is none: the status is 101, not 400",
        "refused: version 013, and 13 is told: the status is 101, not 426 or 400",
        "refused: extensions that are malformed: the status is 101, not 400",
        "refused: a header for extensions without any: the status is 101, not 400"
      ])
    }), 60_000)
})

// Of the statuses that are right, ours is the first.
const strict = Record.map(HandshakeConformance.rules, (rules) =>
  rules.map((rule): HandshakeRule.HandshakeRule => {
    const { outcome } = rule
    return outcome._tag === "Refused"
      ? { ...rule, outcome: { ...outcome, statuses: outcome.statuses.slice(0, 1) } }
      : rule
  }))

/** Any server that echoes, before the handshake. */
const handshakesAt = (
  url: string,
  portFor: (limits: Partial<HandshakeRule.HandshakeLimits>) => Effect.Effect<number, unknown, Scope.Scope>
) =>
  HandshakeConformance.overTransport({
    url,
    hasLimits: false,
    open: (limits) =>
      Effect.flatMap(portFor(limits), (port) =>
        Effect.callback<Transport.Transport>((resume) => {
          const socket = Net.connect({ port, host: "127.0.0.1", allowHalfOpen: true }, () =>
            // Dropped with a TCP reset.
            resume(Effect.succeed(Object.assign(NodeTransport.fromSocket(socket), {
              destroy: () => void socket.resetAndDestroy()
            }))))
        }))
  })

const startWs = Effect.map(
  Effect.acquireRelease(
    Effect.callback<Ws.WebSocketServer>((resume) => {
      const server = new Ws.WebSocketServer({ port: 0, host: "127.0.0.1" })
      server.on("listening", () => resume(Effect.succeed(server)))
      server.on("connection", (socket) => {
        socket.on("error", () => {})
        socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }))
      })
    }),
    (server) => Effect.sync(() => server.close())
  ),
  (server) => (server.address() as Net.AddressInfo).port
)
