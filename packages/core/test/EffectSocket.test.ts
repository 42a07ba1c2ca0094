import { EffectSocket, WebSocketClient, WebSocketError } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { Socket } from "effect/socket"
import { answerClose, frames, isWaiting, open, openStalled, type Options, start } from "./fixture.ts"

const reasonOf = <A>(effect: Effect.Effect<A, Socket.SocketError>) =>
  Effect.map(Effect.flip(effect), ({ reason }) => reason)

/** A connection as a socket, with its reader and writer. */
const openSocket = Effect.fnUntraced(function*(opening: ReturnType<typeof open> = open()) {
  const opened = yield* opening
  const socket = EffectSocket.fromConnection(opened.connection)
  const reader = yield* socket.reader
  // The scope of the reader closes the connection too.
  yield* Effect.addFinalizer(() => opened.peer.reset)
  return { ...opened, reader, writer: yield* socket.writer }
})

describe("a connection as a socket", () => {
  it.effect("reads and writes messages as frames, a batch for each read", () =>
    Effect.gen(function*() {
      const { peer, reader, writer } = yield* openSocket()
      yield* peer.sendText("one")
      assert.deepStrictEqual(yield* reader.pull, ["one"])
      yield* writer.write("two")
      yield* writer.writeAll(["three", Uint8Array.of(4)])
      assert.deepStrictEqual(yield* frames(peer, 3), ["text two", "text three", "binary 4"])
    }))

  it.effect("a write suspends while the queue is full, and is interrupted without a trace", () =>
    Effect.gen(function*() {
      const { peer, writer } = yield* openSocket(openStalled({ maxQueuedMessages: 2 }))
      yield* writer.write("in flight")
      yield* writer.write("queued")
      const waiting = yield* start(writer.write("interrupted"))
      const other = yield* start(writer.write("last"))
      assert.isTrue(yield* isWaiting(waiting))
      yield* Fiber.interrupt(waiting)
      yield* peer.demand(Infinity)
      yield* Fiber.join(other)
      assert.deepStrictEqual(yield* frames(peer, 3), ["text in flight", "text queued", "text last"])
    }))

  it.effect.each([1000, 1001, 4000])(
    "a Close with %d is a SocketCloseError, behind what came before",
    (code) =>
      Effect.gen(function*() {
        const { peer, reader, writer } = yield* openSocket()
        yield* peer.sendText("before")
        yield* peer.sendClose(code, "bye")
        yield* peer.end
        assert.deepStrictEqual(yield* reader.pull, ["before"])
        for (const late of [Effect.asVoid(reader.pull), writer.write("late"), writer.writeAll(["late"])]) {
          assert.deepInclude(yield* reasonOf(late), { _tag: "SocketCloseError", code, closeReason: "bye" })
        }
      })
  )

  it.effect("a lost connection and a broken rule are the ends with their codes, 1006 and 1002", () =>
    Effect.gen(function*() {
      const lost = yield* openSocket()
      yield* lost.peer.reset
      assert.deepInclude(yield* reasonOf(lost.reader.pull), { _tag: "SocketCloseError", code: 1006 })
      const broken = yield* openSocket()
      yield* broken.peer.sendBytes(Uint8Array.of(0x83, 0x80, 0, 0, 0, 0))
      yield* broken.peer.end
      assert.deepInclude(yield* reasonOf(broken.reader.pull), { _tag: "SocketCloseError", code: 1002 })
    }))

  it.effect("writing a CloseEvent closes with its code; one that may not travel fails and changes nothing", () =>
    Effect.gen(function*() {
      const { peer, writer } = yield* openSocket()
      assert.deepInclude(yield* reasonOf(writer.write(new Socket.CloseEvent(1006))), { _tag: "SocketWriteError" })
      const closing = yield* start(writer.write(new Socket.CloseEvent(4001, "enough")))
      assert.strictEqual(yield* answerClose(peer), "close 4001 enough")
      yield* Fiber.join(closing)
    }))

  it.effect.each([
    { what: "success", exit: Exit.void, code: 1000 },
    { what: "interruption", exit: Exit.interrupt(1), code: 1001 },
    { what: "failure", exit: Exit.fail("broken"), code: 1011 }
  ])(
    "closing the reader's scope on $what closes with $code, and a suspended pull fails",
    ({ code, exit }) =>
      Effect.gen(function*() {
        const { connection, peer } = yield* open()
        const scope = yield* Scope.make()
        const { pull } = yield* Scope.provide(EffectSocket.fromConnection(connection).reader, scope)
        const pulling = yield* start(reasonOf(pull))
        const closing = yield* start(Scope.close(scope, exit))
        assert.strictEqual(yield* answerClose(peer), `close ${code}`)
        yield* Fiber.join(closing)
        assert.deepInclude(yield* Fiber.join(pulling), { _tag: "SocketCloseError", code })
      })
  )

  it.effect("cannot be upgraded to TLS", () =>
    Effect.gen(function*() {
      const { reader } = yield* openSocket()
      assert.deepInclude(yield* reasonOf(reader.upgrade()), { _tag: "SocketUpgradeError" })
    }))
})

const { ConnectError, ConnectTimeout, ConnectionRefused } = WebSocketError

/** A client whose connects succeed or fail as told, one after the other. */
const scripted = Effect.fnUntraced(
  function*(...script: ReadonlyArray<Options | WebSocketError.ConnectError["reason"]>) {
    const peers: Array<Effect.Success<ReturnType<typeof open>>["peer"]> = []
    const steps = script[Symbol.iterator]()
    const socket = yield* EffectSocket.make("ws://test").pipe(
      Effect.provideService(WebSocketClient.WebSocketClient, {
        connect: (url) =>
          Effect.gen(function*() {
            const step: Options | WebSocketError.ConnectError["reason"] = steps.next().value ?? {}
            if ("_tag" in step) return yield* new ConnectError({ url: String(url), reason: step })
            const { connection, peer } = yield* open({ role: "client", ...step })
            peers.push(peer)
            return connection
          })
      })
    )
    return { peers, socket }
  }
)

describe("a socket that connects", () => {
  it.effect("fails to open with the error of connecting", () =>
    Effect.gen(function*() {
      const { socket } = yield* scripted(new ConnectTimeout({}), new ConnectionRefused({ cause: "nobody" }))
      for (const [kind, tag] of [["Timeout", "ConnectTimeout"], ["Unknown", "ConnectionRefused"]] as const) {
        const reason = yield* reasonOf(Effect.scoped(socket.reader))
        assert(reason._tag === "SocketOpenError")
        assert.strictEqual(reason.kind, kind)
        assert.instanceOf(reason.cause, ConnectError)
        assert.strictEqual((reason.cause as WebSocketError.ConnectError).reason._tag, tag)
      }
    }))

  it.effect("connects anew for each reader; what is written in between waits for the next connection", () =>
    Effect.gen(function*() {
      const { peers, socket } = yield* scripted()
      const writer = yield* socket.writer
      const early = yield* start(writer.write("early"))
      assert.isTrue(yield* isWaiting(early))

      const scope = yield* Scope.make()
      const first = yield* Scope.provide(socket.reader, scope)
      yield* Fiber.join(early)
      assert.deepStrictEqual(yield* frames(peers[0]!, 1), ["text early"])
      yield* peers[0]!.reset
      assert.deepInclude(yield* reasonOf(first.pull), { _tag: "SocketCloseError", code: 1006 })

      // The reader has not let go of the lost connection yet.
      const late = yield* start(writer.writeAll(["one", "two"]))
      assert.isTrue(yield* isWaiting(late))
      yield* Scope.close(scope, Exit.void)
      yield* socket.reader
      yield* Fiber.join(late)
      assert.deepStrictEqual(yield* frames(peers[1]!, 2), ["text one", "text two"])
    }))

  it.effect("a write that is interrupted without a connection is not sent later", () =>
    Effect.gen(function*() {
      const { peers, socket } = yield* scripted()
      const writer = yield* socket.writer
      const early = yield* start(writer.write("never"))
      yield* Fiber.interrupt(early)
      yield* socket.reader
      yield* writer.write("now")
      assert.deepStrictEqual(yield* frames(peers[0]!, 1), ["text now"])
    }))
})
