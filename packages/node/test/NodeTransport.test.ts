import type { TransportHandler } from "@effect-ws/core/Transport"
import { NodeTransport } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Queue } from "effect"
import * as Net from "node:net"
import { duplexPair, PassThrough } from "node:stream"
import * as Tls from "node:tls"
import { certificates } from "./certificates.ts"
import { unhandledErrors } from "./fixture.ts"
import { connectRaw, connectTls } from "./rawPeer.ts"

/** Writes down what a transport tells. */
const recorder = () => {
  const told: Array<string> = []
  const closed = Deferred.makeUnsafe<void>()
  const handler: TransportHandler = {
    onData: (chunk) => told.push(Buffer.from(chunk).toString()),
    onDrain: () => told.push("drain"),
    onOverrun: () => told.push("overrun"),
    onEnd: () => told.push("end"),
    onClose: (cause) => {
      told.push(cause === undefined ? "close" : `close: ${(cause as NodeJS.ErrnoException).code}`)
      Deferred.doneUnsafe(closed, Effect.void)
    }
  }
  return { told, handler, closed: Deferred.await(closed) }
}

/** A socket as a server has it after a handshake, and its peer. */
const pairOf = <S extends Net.Socket>(
  create: (onSocket: (socket: S) => void) => Net.Server,
  connect: typeof connectRaw
) =>
  Effect.gen(function*() {
    const accepted = yield* Queue.unbounded<S>()
    const server = create((socket) => void Queue.offerUnsafe(accepted, socket))
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
      () => Effect.sync(() => server.close())
    )
    const peer = yield* connect((server.address() as Net.AddressInfo).port)
    const socket = yield* Effect.acquireRelease(Queue.take(accepted), (socket) => Effect.sync(() => socket.destroy()))
    return { peer, socket }
  })

const pair = pairOf((onSocket) => Net.createServer({ allowHalfOpen: true }, onSocket), connectRaw)

const tlsPair = Effect.flatMap(
  certificates,
  ({ server: tls }) =>
    pairOf<Tls.TLSSocket>(
      (onSocket) => Tls.createServer({ allowHalfOpen: true, ...tls }, onSocket),
      (port) => connectTls(port)
    )
)

const happens = (socket: Net.Socket, event: "end" | "close") =>
  Effect.callback<void>((resume) => void socket.once(event, () => resume(Effect.void)))

describe("NodeTransport", () => {
  it.live("tells the bytes that were read with the handshake first, and the end after all of them", () =>
    Effect.gen(function*() {
      const { peer, socket } = yield* pair
      const { closed, handler, told } = recorder()
      const transport = NodeTransport.fromSocket(socket, Buffer.from("head, "))
      yield* peer.send("rest")
      yield* peer.end
      transport.start(handler)
      transport.end()
      yield* closed
      assert.deepStrictEqual([told.slice(0, -2).join(""), ...told.slice(-2)], ["head, rest", "end", "close"])
    }))

  it.live("reads sockets of its own process past their stream, and anything else as a stream", () =>
    Effect.gen(function*() {
      const { peer, socket } = yield* pair
      const { closed, handler, told } = recorder()
      const transport = NodeTransport.fromSocket(socket)
      transport.start(handler)
      assert.strictEqual(socket.listenerCount("data"), 0)
      transport.pause()
      yield* peer.send("a")
      transport.resume()
      yield* peer.end
      yield* happens(socket, "end")
      transport.end()
      yield* closed
      assert.deepStrictEqual(told, ["a", "end", "close"])

      const [ours, theirs] = duplexPair()
      const streamed = recorder()
      NodeTransport.fromSocket(ours).start(streamed.handler)
      assert.strictEqual(ours.listenerCount("data"), 1)
      theirs.end("b")
      yield* Effect.callback<void>((resume) => void ours.once("end", () => resume(Effect.void)))
      assert.deepStrictEqual(streamed.told, ["b", "end"])
    }))

  it.live("reads to where its handler wants it, as long as that wants it, and never again", () =>
    Effect.gen(function*() {
      const { peer, socket } = yield* pair
      const read = yield* Queue.unbounded<string>()
      const { handler } = recorder()
      const targets = [Buffer.alloc(4), Buffer.alloc(100)]
      const transport = NodeTransport.fromSocket(socket)
      transport.start({
        ...handler,
        onData: (chunk) => Queue.offerUnsafe(read, Buffer.from(chunk).toString()),
        target: () => targets.shift()
      })
      const [first, second] = targets as [Buffer, Buffer]
      for (const [sent, told] of [["one", ["one"]], ["two, three", ["two,", " three"]], ["four", ["four"]]] as const) {
        yield* peer.send(sent)
        for (const expected of told) assert.strictEqual(yield* Queue.take(read), expected)
      }
      assert.strictEqual(first.toString(), "two,")
      assert.strictEqual(second.subarray(0, 7).toString(), " three\0")
    }))

  it.live("tells an end that came before it was started", () =>
    Effect.gen(function*() {
      const { peer, socket } = yield* pair
      const { closed, handler, told } = recorder()
      const transport = NodeTransport.fromSocket(socket)
      yield* Effect.all([happens(socket, "end"), peer.end], { concurrency: "unbounded" })
      transport.start(handler)
      transport.end()
      yield* closed
      assert.deepStrictEqual(told, ["end", "close"])
    }))

  it.live("tells a reset that came before it was started, and handles it", () =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const { peer, socket } = yield* pair
      const { closed, handler, told } = recorder()
      const transport = NodeTransport.fromSocket(socket)
      yield* Effect.all([happens(socket, "close"), peer.reset], { concurrency: "unbounded" })
      transport.start(handler)
      assert.deepStrictEqual(told, [])
      yield* closed
      assert.deepStrictEqual([told, errors], [["close: ECONNRESET"], []])
    }))

  it.live("tells its end once, however often it is ended or destroyed, and takes writes after it", () =>
    Effect.gen(function*() {
      const errors = yield* unhandledErrors
      const { peer, socket } = yield* pair
      const { closed, handler, told } = recorder()
      const transport = NodeTransport.fromSocket(socket)
      transport.start(handler)
      transport.write([Buffer.from("one"), Buffer.from("two")])
      transport.end()
      transport.end()
      assert.strictEqual((yield* peer.rest).toString(), "onetwo")
      transport.destroy()
      transport.destroy()
      transport.write([Buffer.from("three")])
      transport.pause()
      transport.resume()
      transport.end()
      yield* closed
      yield* peer.end
      yield* peer.closed
      assert.deepStrictEqual([told, errors], [["close"], []])
    }))

  it.live("reads TLS past its stream, also what comes while it is paused", () =>
    Effect.gen(function*() {
      const { peer, socket } = yield* tlsPair
      const { closed, handler, told } = recorder()
      const transport = NodeTransport.fromSocket(socket, Buffer.from("head, "))
      transport.start(handler)
      assert.strictEqual(socket.listenerCount("data"), 0)
      transport.pause()
      yield* peer.send("rest")
      transport.resume()
      yield* peer.end
      yield* happens(socket, "end")
      transport.end()
      yield* closed
      assert.deepStrictEqual([told.slice(0, -2).join(""), ...told.slice(-2)], ["head, rest", "end", "close"])
    }))

  it.live("reads TLS over anything but a socket as a stream", () =>
    Effect.gen(function*() {
      const { server: tls } = yield* certificates
      const [ours, theirs] = duplexPair()
      const secureContext = Tls.createSecureContext(tls)
      const socket = new Tls.TLSSocket(ours, { isServer: true, secureContext })
      const { handler, told } = recorder()
      NodeTransport.fromSocket(socket).start(handler)
      assert.strictEqual(socket.listenerCount("data"), 1)
      const peer = Tls.connect({ socket: theirs, rejectUnauthorized: false })
      peer.end("b")
      yield* happens(socket, "end")
      assert.deepStrictEqual(told, ["b", "end"])
      socket.destroy()
      peer.destroy()
    }))

  it("leaves chunks to a stream that may go on reading them after it has called back", () => {
    const stream = new PassThrough()
    const chunk = Buffer.from("one")
    if (NodeTransport.fromSocket(stream).write([chunk])) chunk.fill(0)
    assert.strictEqual(stream.read()?.toString(), "one")
    stream.destroy()
  })

  it.live.each([1, 1000, 10_000, 100_000])(
    "over TLS, chunks of %d bytes may be overwritten once they are taken, and wait in bounds for the peer",
    (size) =>
      Effect.gen(function*() {
        const { peer, socket } = yield* tlsPair
        const drains = yield* Queue.unbounded<void>()
        const transport = NodeTransport.fromSocket(socket)
        transport.start({ ...recorder().handler, onDrain: () => void Queue.offerUnsafe(drains, undefined) })
        const outcomes: Array<boolean> = []
        for (let i = 0; i < 60; i += 3) {
          const chunks = [0, 1, 2].map((j) => Buffer.alloc(size, i + j))
          const taken = transport.write(chunks)
          outcomes.push(taken)
          if (!taken) yield* Queue.take(drains)
          for (const chunk of chunks) chunk.fill(255)
        }
        assert.deepStrictEqual([...new Set(outcomes)], size === 1 ? [true] : size === 100_000 ? [false] : [true, false])
        const received = yield* peer.bytes(60 * size)
        const expected = Buffer.concat(Array.from({ length: 60 }, (_, i) => Buffer.alloc(size, i)))
        assert.isTrue(received.equals(expected))
      })
  )
})
