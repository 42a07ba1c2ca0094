import { type Compression, HandshakeRequest } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { echo, handOver, start } from "./fixture.ts"
import { type ForeignPeer, matrix, type Open, standardPeer } from "./foreignPeer.ts"

const connect = (url: string, subprotocols: ReadonlyArray<string> = []) =>
  Effect.acquireRelease(
    Effect.sync(() => new WebSocket(url, [...subprotocols])),
    (socket) => Effect.sync(() => socket.close())
  )

const opened = (socket: WebSocket) =>
  Effect.callback<void>((resume) => socket.addEventListener("open", () => resume(Effect.void)))

const openClient = Effect.fnUntraced(function*(
  deflate: boolean | Compression.DeflateOptions,
  { offered, spoken }: Parameters<Open<ForeignPeer>>[0]
) {
  const { accept, serving } = yield* handOver({ subprotocols: spoken })
  const { url } = yield* start(serving, { deflate })
  const socket = yield* connect(url, offered)
  const peer = standardPeer(socket)
  yield* opened(socket)
  return { peer, connection: yield* accept }
})

const client = (deflate: boolean | Compression.DeflateOptions): Open<ForeignPeer> => (subprotocols) =>
  openClient(deflate, subprotocols)

const contextTakeover = true

matrix("Node's WebSocket as client", client(false))
// It offers compression itself.
matrix("Node's WebSocket as client, compressed", client({ threshold: 0 }))
matrix(
  "Node's WebSocket as client, compressed with context takeover",
  client({ threshold: 0, sending: { contextTakeover }, receiving: { contextTakeover } })
)

describe("permessage-deflate with Node's WebSocket", () => {
  it.live("is agreed on", () =>
    Effect.gen(function*() {
      const { connection } = yield* openClient(true, { offered: [], spoken: [] })
      assert.deepStrictEqual(connection.extensions.map(({ name }) => name), ["permessage-deflate"])
    }))
})

describe("Node's WebSocket as client", () => {
  it.live("sees a rejected handshake as an error and 1006 (§7.1.5)", () =>
    Effect.gen(function*() {
      const { serving } = yield* handOver({
        handshake: () => Effect.fail(new HandshakeRequest.HandshakeRejected({ status: 401 }))
      })
      const { url } = yield* start(serving)
      const peer = standardPeer(yield* connect(url))
      assert.strictEqual((yield* peer.closed).code, 1006)
    }))

  it.live("is told by the absence of a subprotocol that none is spoken (§4.2.2)", () =>
    Effect.gen(function*() {
      const { url } = yield* start(echo)
      const peer = standardPeer(yield* connect(url, ["v1.chat"]))
      assert.strictEqual((yield* peer.closed).code, 1006)
    }))
})
