import * as Connection from "@effect-ws/core/Connection"
import * as CloseFrame from "@effect-ws/core/protocol/CloseFrame"
import { type Frame, Opcode, type Role } from "@effect-ws/core/protocol/Frame"
import { portable } from "@effect-ws/core/protocol/Utf8"
import type { Transport } from "@effect-ws/core/Transport"
import { TestLink, type Transcript, WebSocketProbe } from "@effect-ws/test-kit"
import { type Cause, Effect, type Fiber, Queue, Stream } from "effect"

export const roles: ReadonlyArray<Role> = ["server", "client"]

export const handshake: Connection.HandshakeResult = {
  subprotocol: undefined,
  extensions: [],
  request: { url: "/", headers: {} },
  response: { status: 101, headers: {} }
}

export interface Options extends Connection.SettingsOptions, Partial<Connection.Established> {
  readonly role?: Role
  readonly link?: Partial<TestLink.Behaviour>
}

/** What a connection did to its transport: the bytes of each write, and all else by name. */
export interface Wire {
  readonly reads: Array<number>
  readonly writes: Array<number>
  readonly calls: Array<"pause" | "resume" | "end" | "destroy">
}

const record = (transport: Transport, wire: Wire): Transport => ({
  peerAddress: { _tag: "Tcp", host: "192.0.2.1", port: 50_000 },
  localAddress: { _tag: "Unix", path: "/run/test.sock" },
  capabilities: transport.capabilities,
  start: (handler) =>
    transport.start({
      onData: (chunk) => {
        wire.reads.push(chunk.length)
        handler.onData(chunk)
      },
      onDrain: () => handler.onDrain(),
      onOverrun: () => handler.onOverrun(),
      onEnd: () => handler.onEnd(),
      onClose: (cause) => handler.onClose(cause)
    }),
  pause: () => {
    wire.calls.push("pause")
    transport.pause()
  },
  resume: () => {
    wire.calls.push("resume")
    transport.resume()
  },
  write: (chunks) => {
    wire.writes.push(chunks.reduce((bytes, chunk) => bytes + chunk.length, 0))
    return transport.write(chunks)
  },
  end: () => {
    wire.calls.push("end")
    transport.end()
  },
  destroy: () => {
    wire.calls.push("destroy")
    transport.destroy()
  }
})

/** A peer of the given role, and the transport that leads to it. */
export const link = Effect.fnUntraced(function*(role: Role, behaviour: Partial<TestLink.Behaviour> = {}) {
  const link = yield* TestLink.make(behaviour)
  const [own, transport] = role === "client" ? [link.client, link.server] : [link.server, link.client]
  return { peer: yield* WebSocketProbe.make(own, role), transport }
})

/** A connection, by default a server's, and its peer. Its scope closes without delay: the peer resets the link before. */
export const open = Effect.fnUntraced(
  function*(options: Options = {}) {
    const { deflate, link: behaviour, role = "server" } = options
    const { peer, transport } = yield* link(role === "server" ? "client" : "server", behaviour)
    const wire: Wire = { reads: [], writes: [], calls: [] }
    const settings = yield* Connection.settings({
      maskKey: role === "client" ? () => 0x1234_5678 : undefined,
      ...options
    })
    const connection = yield* Connection.make(record(transport, wire), settings, {
      deflate,
      handshake: options.handshake ?? handshake
    })
    yield* Effect.addFinalizer(() => peer.reset)
    return { connection, peer, wire }
  }
)

/** A connection whose peer does not read: the first write is still in flight, and the rest waits in the queue. */
export const openStalled = (options: Options = {}) =>
  Effect.tap(open({ link: { bufferBytes: 0 }, ...options }), ({ peer }) => peer.demand(0))

/** Lets everything happen that can happen without time passing. */
export const settle: Effect.Effect<void> = Effect.repeat(Effect.yieldNow, { times: 4 })

/** Runs an effect in the background, from now. */
export const start = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** Tells whether a fiber goes on waiting, though everything has happened that can. */
export const isWaiting = (fiber: Fiber.Fiber<unknown, unknown>): Effect.Effect<boolean> =>
  Effect.map(settle, () => fiber.pollUnsafe() === undefined)

const decoder = new TextDecoder()

const names: Record<number, string> = {
  [Opcode.continuation]: "continuation",
  [Opcode.text]: "text",
  [Opcode.binary]: "binary",
  [Opcode.close]: "close",
  [Opcode.ping]: "ping",
  [Opcode.pong]: "pong"
}

/** A frame in words, such as "text hello", "text... hel" (more fragments follow), "ping 1,2" or "close 1000 bye". */
export const show = ({ fin, opcode, payload }: Pick<Transcript.Frame, "fin" | "opcode" | "payload">): string => {
  const words = [names[opcode] + (fin ? "" : "...")]
  if (opcode === Opcode.close) {
    const close = CloseFrame.decode(payload, portable)
    words.push("_tag" in close ? close.detail : `${close.code ?? ""} ${close.reason}`)
  } else {
    words.push(opcode < Opcode.binary ? decoder.decode(payload) : payload.join(","))
  }
  return words.join(" ").trimEnd()
}

/** The next frames that the connection sends. */
export const frames = (peer: WebSocketProbe.WebSocketProbe, count: number) =>
  Effect.map(Effect.replicateEffect(peer.frame, count), (frames) => frames.map(show))

/** Every frame up to the end of what the connection sends. */
export const remainingFrames = Effect.fnUntraced(function*(peer: WebSocketProbe.WebSocketProbe) {
  const shown: Array<string> = []
  yield* peer.frame.pipe(Effect.tap((frame) => Effect.sync(() => shown.push(show(frame)))), Effect.forever, Effect.flip)
  return shown
})

/** Answers the Close that the connection sends, and ends the link. */
export const answerClose = Effect.fnUntraced(function*(peer: WebSocketProbe.WebSocketProbe) {
  const close = yield* peer.frame
  yield* peer.send(close)
  yield* peer.end
  return show(close)
})

export const control = (opcode: Opcode, ...payload: ReadonlyArray<number>): Frame => ({
  fin: true,
  rsv: 0,
  opcode,
  payload: Uint8Array.from(payload)
})

export const binary = (payload: Uint8Array): Frame => ({ fin: true, rsv: 0, opcode: Opcode.binary, payload })

/** The tag of the reason that an effect fails with. */
export const reasonOf = <A, E extends { readonly reason: { readonly _tag: string } }, R>(
  effect: Effect.Effect<A, E, R>
) => Effect.map(Effect.flip(effect), (error) => error.reason._tag)

/** A stream under the control of the test, which ends with `Queue.end`. */
export const source = Effect.map(Queue.unbounded<string, Cause.Done>(), (queue) => ({
  queue,
  stream: Stream.fromQueue(queue)
}))
