import { type Connection, WebSocketClient } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, type Scope } from "effect"
import * as Tls from "node:tls"
import { certificates } from "./certificates.ts"
import { handOver, start, withTlsClient } from "./fixture.ts"
import { isPayload, payload } from "./peers/load.ts"
import {
  brokenRecord,
  carrierOf,
  closeFrame,
  closeOf,
  frame,
  listenRaw,
  listenTls,
  opcodes,
  RawPeer,
  switching,
  upgradeTls
} from "./rawPeer.ts"

/** Our end of a connection over TLS, and its peer. */
interface Pair {
  readonly connection: Connection.Connection
  readonly peer: RawPeer
}

const open: Record<"server" | "client", Effect.Effect<Pair, unknown, Scope.Scope>> = {
  server: Effect.gen(function*() {
    const { server: tls } = yield* certificates
    const { accept, serving } = yield* handOver()
    const { port } = yield* start(serving, { tls, heartbeat: false })
    const peer = yield* upgradeTls(port)
    return { peer, connection: yield* accept }
  }),
  client: Effect.gen(function*() {
    const { authority, server: tls } = yield* certificates
    const { accept, url } = yield* listenTls(tls)
    const connecting = yield* WebSocketClient.connect(url, { heartbeat: false }).pipe(
      withTlsClient({ ca: authority.cert }),
      Effect.forkScoped
    )
    const peer = yield* accept
    yield* peer.send(switching(yield* peer.head))
    const connection = yield* Fiber.join(connecting)
    yield* Effect.addFinalizer(() => connection.abort)
    return { peer, connection }
  })
}

const roles = ["server", "client"] as const

// More than the buffers of the kernel and of TLS take at both ends together.
const count = 2048
const size = 16 * 1024

/** Sends until all is sent or the connection does not take any more; tells when the queue is full. */
const fill = Effect.fnUntraced(function*(connection: Connection.Connection) {
  let sent = 0
  const send = Effect.suspend(() => connection.send(payload(sent, size))).pipe(
    Effect.andThen(Effect.sync(() => ++sent)),
    Effect.repeat({ while: (sent) => sent < count })
  )
  const sending = yield* Effect.forkScoped(Effect.exit(send))
  yield* connection.queuedBytes.pipe(
    Effect.delay("5 millis"),
    Effect.repeat({ until: (queued) => queued + size > 1024 * 1024 - size })
  )
  return { sending, sent: () => sent }
})

describe.each(roles)("over TLS, as a %s", (role) => {
  it.live("a peer that reads nothing suspends the sender, and gets everything in order later", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open[role]
      peer.socket.pause()
      const { sending, sent } = yield* fill(connection)
      assert.isBelow(sent(), count)
      assert.isUndefined(sending.pollUnsafe())
      peer.socket.resume()
      for (let i = 0; i < count; i++) {
        assert.isTrue(isPayload((yield* peer.frame).payload, i, size), `message ${i}`)
      }
      assert.isTrue(Exit.isSuccess(yield* Fiber.join(sending)))
    }))

  it.live("a consumer that pulls nothing stops the peer, and gets everything in order later", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open[role]
      let taken = 0
      const flood = Effect.suspend(() =>
        peer.send(frame("binary", payload(taken, size), { masked: role === "server" }))
      ).pipe(Effect.andThen(Effect.sync(() => ++taken)), Effect.repeat({ while: (taken) => taken < count }))
      const flooding = yield* Effect.forkScoped(flood)
      // Until the peer has got nothing more away for a while.
      let before = -1
      for (let same = 0; same < 20; same++) {
        if (taken !== before) same = 0
        before = taken
        yield* Effect.sleep("10 millis")
      }
      assert.isBelow(taken, count)
      for (let i = 0; i < count; i++) {
        const message = yield* connection.receive
        assert.isTrue(typeof message !== "string" && isPayload(message, i, size), `message ${i}`)
      }
      yield* Fiber.join(flooding)
    }))
})

describe("over TLS, as a client", () => {
  it.live("a record that is broken is a lost connection at once (section 7.1.5)", () =>
    Effect.gen(function*() {
      const { authority, server: tls } = yield* certificates
      const { accept, port } = yield* listenRaw
      const connecting = yield* WebSocketClient.connect(`wss://127.0.0.1:${port}`, { heartbeat: false }).pipe(
        withTlsClient({ ca: authority.cert }),
        Effect.forkScoped
      )
      const raw = yield* accept
      const secureContext = Tls.createSecureContext(tls)
      const peer = new RawPeer(new Tls.TLSSocket(carrierOf(raw), { isServer: true, secureContext }))
      yield* peer.send(switching(yield* peer.head))
      const connection = yield* Fiber.join(connecting)
      yield* raw.send(brokenRecord)
      const error = yield* Effect.flip(connection.receive)
      assert.strictEqual(error._tag === "ConnectionError" && error.reason._tag, "ConnectionLost")
    }))
})

describe("over TLS, as a server", () => {
  it.live("who closes and ends what he sends still gets what waits, and then the Close (section 5.5.1)", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open.server
      peer.socket.pause()
      const { sent } = yield* fill(connection)
      yield* peer.send(closeFrame(4000, "bye"))
      yield* peer.end
      yield* Effect.repeat(connection.state, { until: (state) => state === "Closing" })
      const waiting = sent()
      peer.socket.resume()
      for (let i = 0; i < waiting; i++) {
        assert.isTrue(isPayload((yield* peer.frame).payload, i, size), `message ${i}`)
      }
      const last = yield* peer.frame
      assert.deepStrictEqual([last.opcode, closeOf(last)], [opcodes.close, { code: 4000, reason: "bye" }])
      assert.isTrue((yield* connection.closed).wasClean)
    }))
})
