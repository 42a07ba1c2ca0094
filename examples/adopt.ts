/**
 * Adopting sockets: one port speaks two protocols, told apart by the first bytes.
 *
 *     npx node examples/adopt.ts
 *
 * A line that says PING is answered PONG; what begins like an HTTP request becomes a WebSocket. The bytes that were read to
 * find out are handed over with the socket. Then the client does the same from its side: it asks first, and speaks
 * WebSocket over the same socket afterwards.
 */
import { WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketAdopter, NodeWebSocketClient } from "@effect-ws/node"
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, FiberSet, Layer, Stream } from "effect"
import * as Net from "node:net"

/** The next bytes of a socket, which is paused again behind them. */
const read = (socket: Net.Socket) =>
  Effect.callback<Buffer>((resume) => {
    socket.once("data", (bytes) => {
      socket.pause()
      resume(Effect.succeed(bytes as Buffer))
    })
    socket.resume()
  })

const Echo = WebSocketServer.serve((connection) =>
  Stream.runForEach(connection.messages, (message) => connection.send(`echo of ${String(message)}`))
)

const serve = Effect.fnUntraced(function*(socket: Net.Socket) {
  let bytes = yield* read(socket)
  if (bytes.toString().startsWith("PING\n")) {
    socket.write("PONG\n")
    bytes = bytes.length > 5 ? bytes.subarray(5) : yield* read(socket)
  }
  yield* NodeWebSocketAdopter.adopt(socket, { initialData: bytes })
})

const listen = Effect.acquireRelease(
  Effect.callback<Net.Server>((resume) => {
    const server = Net.createServer({ pauseOnConnect: true })
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
)

const accept = (server: Net.Server) =>
  Layer.effectDiscard(Effect.gen(function*() {
    const run = yield* FiberSet.makeRuntime<NodeWebSocketAdopter.SocketAdopter, void>()
    server.on("connection", (socket) => run(serve(socket)))
  }))

const program = Effect.gen(function*() {
  const server = yield* listen
  const { port } = server.address() as Net.AddressInfo
  yield* Layer.merge(Echo, accept(server)).pipe(
    Layer.provide(NodeWebSocketAdopter.layer({ address: { _tag: "Tcp", host: "127.0.0.1", port } })),
    Layer.build
  )

  const socket = Net.connect(port, "127.0.0.1")
  socket.write("PING\n")
  yield* Console.log(`asked: ${(yield* read(socket)).toString().trim()}`)
  const connection = yield* NodeWebSocketClient.fromSocket(socket, "ws://localhost/")
  yield* connection.send("hello")
  yield* Console.log(`over the same socket: ${yield* connection.receive}`)
})

program.pipe(Effect.scoped, NodeRuntime.runMain)
