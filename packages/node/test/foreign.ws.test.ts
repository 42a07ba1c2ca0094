import { type Compression, type Connection, HandshakeRequest, type Message, WebSocketClient } from "@effect-ws/core"
import { NodeWebSocketClient } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Https from "node:https"
import type * as Net from "node:net"
import * as Ws from "ws"
import { certificates } from "./certificates.ts"
import { handOver, start, withTlsClient } from "./fixture.ts"
import { frameMatrix, type FramePeer, matrix, type Open, standardPeer } from "./foreignPeer.ts"

type Names = ReadonlyArray<string>

const framePeer = (socket: Ws.WebSocket): FramePeer => {
  const send = (data: Message.Message, fin: boolean) => Effect.sync(() => socket.send(data, { fin }))
  return {
    ...standardPeer(socket as unknown as WebSocket),
    sendFragments: (fragments) =>
      Effect.forEach(fragments, (fragment, i) => send(fragment, i === fragments.length - 1), { discard: true }),
    ping: (payload) =>
      Effect.callback<void>((resume) => {
        socket.on("pong", (data) => {
          if (data.toString() === payload) resume(Effect.void)
        })
        socket.ping(payload)
      })
  }
}

const connect = (url: string, subprotocols: ReadonlyArray<string> = [], options: Ws.ClientOptions = {}) =>
  Effect.acquireRelease(
    // The error that a terminated handshake reports is of no interest.
    Effect.sync(() => new Ws.WebSocket(url, [...subprotocols], options).on("error", () => {})),
    (socket) => Effect.sync(() => socket.terminate())
  )

interface Compressing {
  readonly ours?: boolean | Compression.DeflateOptions
  readonly theirs?: Ws.PerMessageDeflateOptions
}

// Both ends, and how many bytes have travelled over the peer's socket.
const openClient = Effect.fnUntraced(function*({ ours, theirs }: Compressing, offered: Names, spoken: Names) {
  const { accept, serving } = yield* handOver({ subprotocols: spoken })
  const { url } = yield* start(serving, { deflate: ours })
  return yield* join(yield* connect(url, offered, theirs && { perMessageDeflate: theirs }), accept)
})

const join = Effect.fnUntraced(function*(socket: Ws.WebSocket, accept: Effect.Effect<Connection.Connection>) {
  const peer = framePeer(socket)
  const travelled = yield* Effect.callback<Net.Socket>((resume) => {
    let net: Net.Socket
    socket.on("upgrade", (response) => {
      net = response.socket
    })
    socket.on("open", () => resume(Effect.succeed(net)))
  })
  return { peer, connection: yield* accept, travelled }
})

const client = (compressing: Compressing = {}): Open<FramePeer> => ({ offered, spoken }) =>
  openClient(compressing, offered, spoken)

const secureClient: Open<FramePeer> = Effect.fnUntraced(function*({ offered, spoken }) {
  const { authority, server: tls } = yield* certificates
  const { accept, serving } = yield* handOver({ subprotocols: spoken })
  const { url } = yield* start(serving, { tls })
  return yield* join(yield* connect(url, offered, { ca: authority.cert }), accept)
})

const listen = (options: Ws.ServerOptions) =>
  Effect.acquireRelease(
    Effect.callback<Ws.WebSocketServer>((resume) => {
      const server = new Ws.WebSocketServer({ port: 0, host: "127.0.0.1", ...options })
      server.on("listening", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.callback<void>((resume) => {
        for (const socket of server.clients) socket.terminate()
        server.close(() => resume(Effect.void))
      })
  )

const urlOf = (server: Ws.WebSocketServer) => `ws://127.0.0.1:${(server.address() as Net.AddressInfo).port}`

const chooseFrom = (spoken: ReadonlyArray<string>) => (protocols: Set<string>) =>
  spoken.find((protocol) => protocols.has(protocol)) ?? false

const openServer = Effect.fnUntraced(function*({ ours, theirs }: Compressing, offered: Names, spoken: Names) {
  const listening = yield* listen({ handleProtocols: chooseFrom(spoken), perMessageDeflate: theirs ?? false })
  return yield* meet(listening, urlOf(listening), { subprotocols: offered, deflate: ours })
}, Effect.provide(NodeWebSocketClient.layer))

const meet = Effect.fnUntraced(function*(
  listening: Ws.WebSocketServer,
  url: string,
  options: WebSocketClient.ConnectOptions
) {
  let accepted: { readonly peer: FramePeer; readonly travelled: Net.Socket } | undefined
  listening.on("connection", (socket, { socket: travelled }) => {
    accepted = { peer: framePeer(socket), travelled }
  })
  const connection = yield* WebSocketClient.connect(url, options)
  if (accepted === undefined) return yield* Effect.die(new Error("the server has no connection"))
  return { ...accepted, connection }
})

const secureServer: Open<FramePeer> = Effect.fnUntraced(function*({ offered, spoken }) {
  const { authority, server: tls } = yield* certificates
  const https = Https.createServer({ ...tls })
  const listening = new Ws.WebSocketServer({ server: https, handleProtocols: chooseFrom(spoken) })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void https.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () =>
      Effect.callback<void>((resume) => {
        for (const socket of listening.clients) socket.terminate()
        https.close(() => resume(Effect.void))
      })
  )
  return yield* meet(listening, urlOf(listening).replace("ws:", "wss:"), { subprotocols: offered }).pipe(
    withTlsClient({ ca: authority.cert })
  )
})

const server = (compressing: Compressing = {}): Open<FramePeer> => ({ offered, spoken }) =>
  openServer(compressing, offered, spoken)

matrix("ws as client", client())
frameMatrix("ws as client", client())
matrix("ws as server", server())
frameMatrix("ws as server", server())
matrix("ws as client, over TLS", secureClient)
frameMatrix("ws as client, over TLS", secureClient)
matrix("ws as server, over TLS", secureServer)
frameMatrix("ws as server, over TLS", secureServer)

const takeover = {
  threshold: 0,
  sending: { contextTakeover: true },
  receiving: { contextTakeover: true }
}

const everything: ReadonlyArray<readonly [name: string, compressing: Compressing]> = [
  ["compressed", { ours: { threshold: 0 }, theirs: { threshold: 0 } }],
  ["compressed with context takeover", { ours: takeover, theirs: { threshold: 0 } }]
]

for (const [name, compressing] of everything) {
  matrix(`ws as client, ${name}`, client(compressing))
  frameMatrix(`ws as client, ${name}`, client(compressing))
  matrix(`ws as server, ${name}`, server(compressing))
  frameMatrix(`ws as server, ${name}`, server(compressing))
}

describe("permessage-deflate with ws (RFC 7692, section 7.1)", () => {
  // What each side is asked to do, and the parameters of the server's response.
  const asClient: ReadonlyArray<
    readonly [theirs: Ws.PerMessageDeflateOptions, ours: true | Compression.DeflateOptions, response: string]
  > = [
    [{}, true, "server_no_context_takeover client_no_context_takeover"],
    [{}, takeover, ""],
    [{ serverNoContextTakeover: true }, takeover, "server_no_context_takeover"],
    [{ clientNoContextTakeover: true }, takeover, "client_no_context_takeover"],
    [{ serverMaxWindowBits: 8 }, takeover, "server_max_window_bits=8"],
    [{ serverMaxWindowBits: 9 }, takeover, "server_max_window_bits=9"],
    [{ clientMaxWindowBits: 10 }, takeover, "client_max_window_bits=10"],
    [
      { serverNoContextTakeover: true, clientNoContextTakeover: true, serverMaxWindowBits: 12, clientMaxWindowBits: 9 },
      takeover,
      "server_no_context_takeover client_no_context_takeover server_max_window_bits=12 client_max_window_bits=9"
    ],
    [
      {},
      { sending: { contextTakeover: true, windowBits: 9 }, receiving: { contextTakeover: true, windowBits: 11 } },
      "server_max_window_bits=9 client_max_window_bits=11"
    ]
  ]

  const asServer: typeof asClient = [
    [{}, true, "server_no_context_takeover client_no_context_takeover"],
    [{}, takeover, ""],
    [{ serverNoContextTakeover: true }, takeover, "server_no_context_takeover"],
    [{ clientNoContextTakeover: true }, takeover, "client_no_context_takeover"],
    [{ serverMaxWindowBits: 9 }, takeover, "server_max_window_bits=9"],
    [{ clientMaxWindowBits: 8 }, takeover, "client_max_window_bits=8"],
    [{ clientMaxWindowBits: 10 }, takeover, "client_max_window_bits=10"],
    [
      {},
      { sending: { contextTakeover: true, windowBits: 9 }, receiving: { contextTakeover: true, windowBits: 11 } },
      "server_max_window_bits=11 client_max_window_bits=9"
    ]
  ]

  const cases = [
    ...asClient.map(([theirs, ours, response]) => ({ role: "client" as const, theirs, ours, response })),
    ...asServer.map(([theirs, ours, response]) => ({ role: "server" as const, theirs, ours, response }))
  ]

  it.live.each(cases)(
    "ws as $role $theirs, effect-ws $ours",
    ({ ours, response, role, theirs }) =>
      Effect.gen(function*() {
        const openPair = role === "client" ? openClient : openServer
        const { connection, peer, travelled } = yield* openPair({ ours, theirs }, [], [])
        const [extension] = connection.extensions
        assert.strictEqual(extension?.name, "permessage-deflate")
        const parameters = extension?.parameters.map(([name, value]) => value === undefined ? name : `${name}=${value}`)
        // ws has an order of its own.
        assert.sameMembers(parameters ?? [], response.split(" ").filter((each) => each !== ""))

        const { bytesRead, bytesWritten } = travelled
        const messages = Array.from({ length: 30 }, (_, i) => `${"a text of some length ".repeat(60 + i)}${i}`)
        for (const message of messages) {
          yield* connection.send(message)
          assert.strictEqual(yield* peer.receive, message)
          yield* peer.send(message)
          assert.strictEqual(yield* connection.receive, message)
        }
        const plain = messages.join("").length
        assert.isBelow(travelled.bytesRead - bytesRead, plain / 5)
        assert.isBelow(travelled.bytesWritten - bytesWritten, plain / 5)
      })
  )

  it.live("is not used unless both sides want it", () =>
    Effect.gen(function*() {
      const pairs = [
        yield* openClient({ theirs: {} }, [], []),
        yield* openClient({ ours: false, theirs: {} }, [], []),
        yield* openServer({ theirs: {} }, [], []),
        yield* openServer({ ours: true }, [], [])
      ]
      for (const { connection, peer, travelled } of pairs) {
        assert.deepStrictEqual(connection.extensions, [])
        const { bytesRead } = travelled
        yield* connection.send("x".repeat(5000))
        assert.strictEqual(yield* peer.receive, "x".repeat(5000))
        assert.isAtLeast(travelled.bytesRead - bytesRead, 5000)
      }
    }))
})

describe("ws as client", () => {
  it.live("sees the response to a rejected handshake (§4.2.2)", () =>
    Effect.gen(function*() {
      const rejection = { status: 401, headers: { "www-authenticate": "Bearer" }, body: "who are you?" }
      const { serving } = yield* handOver({
        handshake: () => Effect.fail(new HandshakeRequest.HandshakeRejected(rejection))
      })
      const { url } = yield* start(serving)
      const socket = yield* connect(url)
      const seen = yield* Effect.callback<unknown>((resume) => {
        socket.on("unexpected-response", (_, response) => {
          let body = ""
          response.on("data", (chunk) => {
            body += chunk
          })
          response.on("end", () => {
            const headers = { "www-authenticate": response.headers["www-authenticate"] }
            resume(Effect.succeed({ status: response.statusCode, headers, body }))
          })
        })
      })
      assert.deepStrictEqual(seen, rejection)
    }))
})

describe("ws as server", () => {
  it.live("rejects a handshake, and its response is the error (§4.1)", () =>
    Effect.gen(function*() {
      const listening = yield* listen({
        verifyClient: (_, done) => done(false, 403, "not you", { "x-reason": "unknown" })
      })
      const error = yield* Effect.flip(WebSocketClient.connect(urlOf(listening)))
      if (error.reason._tag !== "UpgradeRejected") return assert.fail(error.message)
      const { body, headers, status } = error.reason
      assert.deepStrictEqual([status, headers["x-reason"], body], [403, "unknown", "not you"])
    }).pipe(Effect.provide(NodeWebSocketClient.layer)))
})
