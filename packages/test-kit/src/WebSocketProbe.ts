/**
 * One side of a connection, played by a test.
 *
 * @since 0.1.0
 */
import type { Message } from "@effect-ws/core/Message"
import { withoutCredentials } from "@effect-ws/core/protocol/BasicAuth"
import { isControl, Opcode, type Role } from "@effect-ws/core/protocol/Frame"
import * as Handshake from "@effect-ws/core/protocol/Handshake"
import { parseUrl } from "@effect-ws/core/protocol/WebSocketUrl"
import type { Response, Upgrade } from "@effect-ws/core/ServerRuntime"
import type { Transport } from "@effect-ws/core/Transport"
import { ConnectError, InvalidUrl } from "@effect-ws/core/WebSocketError"
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { FrameCollector } from "./internal/frameScanner.ts"
import { isTestClock, patience } from "./internal/realTime.ts"
import { sha1 } from "./internal/sha1.ts"
import { TestNetwork } from "./TestNetwork.ts"
import * as Transcript from "./Transcript.ts"
import * as Wire from "./Wire.ts"

/**
 * What the test expected did not come. The message shows the transcript of the connection up to now.
 *
 * @category errors
 * @since 0.1.0
 */
export class ProbeError extends Schema.TaggedError<ProbeError>("@effect-ws/test-kit/WebSocketProbe/ProbeError")(
  "ProbeError",
  { expected: Schema.String, actual: Schema.String, transcript: Schema.String }
) {
  override get message() {
    return `expected ${this.expected}, but ${this.actual}\n${this.transcript}`
  }
}

/**
 * The side of a connection that a test plays, frame by frame.
 *
 * **Details**
 *
 * It does nothing by itself: it answers neither Pings nor Closes. What the other side sends is read at once and waits here,
 * unless {@link WebSocketProbe.demand} limits it.
 *
 * Each expectation waits for at most three seconds of real time, however the test's own clock goes. It fails with a
 * {@link ProbeError}.
 *
 * @category models
 * @since 0.1.0
 */
export interface WebSocketProbe {
  readonly role: Role

  /** The next frame that arrives, whatever it is; fails with `Cause.Done` at the end of what the other side sends. */
  readonly frame: Effect.Effect<Transcript.Frame, Cause.Done>
  /** Expects a text message: this one, if given. Pings and Pongs before it are passed over, here and below. */
  readonly expectText: (text?: string) => Effect.Effect<string, ProbeError>
  /** Expects a binary message: this one, if given. */
  readonly expectBinary: (bytes?: Uint8Array) => Effect.Effect<Uint8Array, ProbeError>
  /** Expects a message that a schema decodes, such as one made with `Schema.fromJsonString`. */
  readonly expectMessage: <A, R>(schema: Schema.Codec<A, Message, R>) => Effect.Effect<A, ProbeError, R>
  /** Expects a Close: with this code, if given, otherwise with any code or none. */
  readonly expectClose: (
    code?: number
  ) => Effect.Effect<{ readonly code: number | undefined; readonly reason: string }, ProbeError>
  /** Expects a Ping as the next frame, and gives its payload. */
  readonly expectPing: Effect.Effect<Uint8Array, ProbeError>
  /** Expects a Pong as the next frame: with this payload, if given. */
  readonly expectPong: (payload?: Uint8Array) => Effect.Effect<Uint8Array, ProbeError>
  /** Expects exactly this frame. */
  readonly expectFrame: (frame: Wire.Frame) => Effect.Effect<void, ProbeError>
  /** Expects that no message and no Close arrives while the time passes; under a `TestClock` it makes it pass. */
  readonly expectNoMessage: (duration: Duration.Input) => Effect.Effect<void, ProbeError>
  /** Expects that the other side ends what it sends, or drops the connection, without anything but Pings and Pongs before. */
  readonly expectEnd: Effect.Effect<void, ProbeError>

  /**
   * Reads only so many more messages, and then nothing until it is called again: the other side sees backpressure. A Close
   * counts as a message. `Infinity`, as in the beginning, reads everything.
   */
  readonly demand: (messages: number) => Effect.Effect<void>

  /** Sends frames in one write. */
  readonly send: (...frames: ReadonlyArray<Wire.Frame>) => Effect.Effect<void>
  /** Sends bytes, whatever they are. */
  readonly sendBytes: (bytes: Uint8Array) => Effect.Effect<void>
  /** Sends text messages in one write. */
  readonly sendText: (...texts: ReadonlyArray<string>) => Effect.Effect<void>
  /** Sends a Close with any code, or none. */
  readonly sendClose: (code?: number, reason?: string) => Effect.Effect<void>
  /** Closes as an endpoint does: sends a Close, passes over what comes before the other side's Close, and ends the socket. */
  readonly close: (code?: number, reason?: string) => Effect.Effect<void, ProbeError>
  /** Tells whether the other side leaves so much unread that the socket takes no more. */
  readonly isBlocked: Effect.Effect<boolean>
  /** Ends what is sent, as a TCP socket does; the other direction goes on. */
  readonly end: Effect.Effect<void>
  /** Drops the connection at once. */
  readonly reset: Effect.Effect<void>

  /** What has passed up to now. */
  readonly transcript: Effect.Effect<ReadonlyArray<Transcript.Entry>>
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true })

/**
 * Plays one side of a connection over any transport whose handshake is done: in memory, or a real socket.
 *
 * **Details**
 *
 * `role` is the one that the test plays. The transport is the probe's end of the link; when the scope closes, it is dropped.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: (transport: Transport, role: Role) => Effect.Effect<WebSocketProbe, never, Scope.Scope> = Effect
  .fnUntraced(function*(transport, role) {
    const recording = (yield* Transcript.recorder)(transport)
    const own = recording.transport
    const frames = yield* Queue.unbounded<Transcript.Frame, Cause.Done>()
    const collector = new FrameCollector()
    let demanded = Infinity
    let isBlocked = false
    // What came in one chunk with the last frame that was demanded.
    let held: Array<Transcript.Frame> = []
    const admit = () => {
      while (held.length > 0 && demanded > 0) {
        const frame = held.shift()!
        if (frame.opcode === Opcode.close || (frame.fin && !isControl(frame.opcode))) demanded--
        Queue.offerUnsafe(frames, frame)
      }
      if (demanded > 0) own.resume()
      else own.pause()
    }
    // What waits because the socket takes no more.
    let outbox: Array<Uint8Array> = []
    let isEnding = false
    const flush = () => {
      if (isBlocked) return
      const chunks = outbox
      outbox = []
      if (chunks.length > 0) isBlocked = !own.write(chunks)
      if (isEnding && !isBlocked) own.end()
    }
    const ended = () => {
      for (const frame of held) Queue.offerUnsafe(frames, frame)
      held = []
      Queue.endUnsafe(frames)
    }
    yield* Effect.addFinalizer(() => Effect.sync(() => own.destroy()))
    own.start({
      onData: (chunk) => {
        for (const { fin, opcode, payload, rsv } of collector.push(chunk)) held.push({ fin, rsv, opcode, payload })
        if (held.length > 0) admit()
      },
      onDrain: () => {
        isBlocked = false
        flush()
      },
      // The links of the kit can be paused.
      onOverrun: () => {},
      onEnd: ended,
      onClose: ended
    })

    const failed = Effect.fnUntraced(function*(expected: string, actual: string) {
      const transcript = Transcript.format(yield* recording.entries)
      return yield* new ProbeError({
        expected,
        actual,
        transcript: transcript === "" ? "(nothing passed)" : transcript
      })
    })

    const next = (expected: string): Effect.Effect<Transcript.Frame, ProbeError> =>
      Queue.take(frames).pipe(
        Effect.catch(() => failed(expected, "the other side has ended")),
        Effect.raceFirst(Effect.andThen(patience, failed(expected, "nothing came")))
      )

    const nextBut = Effect.fnUntraced(function*(passedOver: ReadonlyArray<number>, expected: string) {
      let frame = yield* next(expected)
      while (passedOver.includes(frame.opcode)) frame = yield* next(expected)
      return frame
    })
    const heartbeats = [Opcode.ping, Opcode.pong]

    const message = Effect.fnUntraced(function*(expected: string) {
      const first = yield* nextBut(heartbeats, expected)
      if (first.opcode !== Opcode.text && first.opcode !== Opcode.binary) {
        return yield* failed(expected, `got ${Transcript.formatFrame(first)}`)
      }
      const parts = [...first.payload]
      for (let { fin } = first; !fin;) {
        const part = yield* nextBut(heartbeats, expected)
        if (part.opcode !== Opcode.continuation) {
          return yield* failed(expected, `its fragments are followed by ${Transcript.formatFrame(part)}`)
        }
        for (const byte of part.payload) parts.push(byte)
        fin = part.fin
      }
      const payload = Uint8Array.from(parts)
      return { ...first, fin: true, payload }
    })

    const control = Effect.fnUntraced(function*(opcode: number, name: string, payload: Uint8Array | undefined) {
      const expected = payload === undefined ? `a ${name}` : shown(Wire.frame(opcode, payload))
      const frame = yield* next(expected)
      if (frame.opcode !== opcode || (payload !== undefined && !isEqual(frame.payload, payload))) {
        return yield* failed(expected, `got ${Transcript.formatFrame(frame)}`)
      }
      return frame.payload
    })

    const sendBytes = (bytes: Uint8Array) =>
      Effect.sync(() => {
        outbox.push(bytes)
        flush()
      })
    const send = (frames: ReadonlyArray<Wire.Frame>) => sendBytes(Wire.encode(role, frames))

    const end = Effect.sync(() => {
      isEnding = true
      flush()
    })

    const probe: WebSocketProbe = {
      role,
      frame: Queue.take(frames),
      expectText: Effect.fnUntraced(function*(text) {
        const expected = text === undefined ? "a text message" : shown(Wire.text(text))
        const frame = yield* message(expected)
        const received = decoder.decode(frame.payload)
        if (frame.opcode !== Opcode.text || (text !== undefined && received !== text)) {
          return yield* failed(expected, `got ${Transcript.formatFrame(frame)}`)
        }
        return received
      }),
      expectBinary: Effect.fnUntraced(function*(bytes) {
        const expected = bytes === undefined ? "a binary message" : shown(Wire.binary(bytes))
        const frame = yield* message(expected)
        if (frame.opcode !== Opcode.binary || (bytes !== undefined && !isEqual(frame.payload, bytes))) {
          return yield* failed(expected, `got ${Transcript.formatFrame(frame)}`)
        }
        return frame.payload
      }),
      expectMessage: Effect.fnUntraced(function*(schema) {
        const expected = "a message that the schema decodes"
        const frame = yield* message(expected)
        const received: Message = frame.opcode === Opcode.text ? decoder.decode(frame.payload) : frame.payload
        return yield* Schema.decodeEffect(schema)(received).pipe(
          Effect.catch((error) => failed(expected, `${error.message} in ${Transcript.formatFrame(frame)}`))
        )
      }),
      expectClose: Effect.fnUntraced(function*(code) {
        const expected = code === undefined ? "a Close" : `a Close with ${code}`
        const frame = yield* nextBut(heartbeats, expected)
        const { opcode, payload } = frame
        const received = payload.length < 2 ? undefined : (payload[0]! << 8) | payload[1]!
        if (opcode !== Opcode.close || (code !== undefined && received !== code)) {
          return yield* failed(expected, `got ${Transcript.formatFrame(frame)}`)
        }
        return { code: received, reason: decoder.decode(payload.subarray(2)) }
      }),
      expectPing: control(Opcode.ping, "Ping", undefined),
      expectPong: (payload) => control(Opcode.pong, "Pong", payload),
      expectFrame: Effect.fnUntraced(function*(wanted) {
        const expected = shown(wanted)
        const frame = yield* nextBut(isControl(wanted.opcode) ? [] : heartbeats, expected)
        const { fin = true, opcode, payload, rsv = 0 } = wanted
        const isWanted = frame.fin === fin && frame.rsv === rsv && frame.opcode === opcode
        if (!isWanted || !isEqual(frame.payload, payload)) {
          return yield* failed(expected, `got ${Transcript.formatFrame(frame)}`)
        }
      }),
      expectNoMessage: Effect.fnUntraced(function*(duration) {
        const expected = "no message"
        yield* (yield* isTestClock) ? TestClock.adjust(duration) : Effect.sleep(duration)
        for (let found = yield* Queue.poll(frames); found._tag === "Some"; found = yield* Queue.poll(frames)) {
          if (isHeartbeat(found.value)) continue
          return yield* failed(expected, `got ${Transcript.formatFrame(found.value)}`)
        }
      }),
      expectEnd: Effect.gen(function*() {
        const expected = "the end"
        const end = Queue.take(frames).pipe(
          Effect.repeat({ while: isHeartbeat }),
          Effect.raceFirst(Effect.andThen(patience, failed(expected, "nothing came"))),
          Effect.exit
        )
        const exit = yield* end
        if (Exit.isSuccess(exit)) return yield* failed(expected, `got ${Transcript.formatFrame(exit.value)}`)
        const error = Cause.findErrorOption(exit.cause)
        if (error._tag === "Some" && error.value instanceof ProbeError) return yield* error.value
      }),
      demand: (messages) =>
        Effect.sync(() => {
          demanded = messages
          admit()
        }),
      send: (...frames) => send(frames),
      sendBytes,
      sendText: (...texts) => send(texts.map((text) => Wire.text(text))),
      sendClose: (code, reason) => send([Wire.close(code, reason)]),
      isBlocked: Effect.sync(() => isBlocked),
      close: Effect.fnUntraced(function*(code, reason) {
        yield* send([Wire.close(code, reason)])
        const expected = "a Close"
        let { opcode } = yield* next(expected)
        while (opcode !== Opcode.close) opcode = (yield* next(expected)).opcode
        yield* end
      }),
      end,
      reset: Effect.sync(() => own.destroy()),
      transcript: recording.entries
    }
    return probe
  })

/**
 * Connects to a server of the network, as a client that the test plays.
 *
 * **Details**
 *
 * The handshake is done by the kit; `headers` and `subprotocols` are those of its request. A server that rejects it fails
 * the effect with the same errors as `WebSocketClient.connect`.
 *
 * **Example** (A server that refuses what is not masked)
 *
 * ```ts
 * import { WebSocketServer } from "@effect-ws/core"
 * import { TestNetwork, WebSocketProbe, Wire } from "@effect-ws/test-kit"
 * import { Effect, Layer, Stream } from "effect"
 *
 * const Echo = WebSocketServer.serve((connection) =>
 *   Stream.runForEach(connection.messages, (message) => connection.send(message))
 * )
 *
 * const test = Effect.gen(function*() {
 *   const probe = yield* WebSocketProbe.connect("ws://localhost")
 *   yield* probe.sendText("hello")
 *   yield* probe.expectText("hello")
 *   yield* probe.send(Wire.text("hello", { masked: false }))
 *   yield* probe.expectClose(1002)
 * }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(Echo, TestNetwork.layer)))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const connect: (
  url: string | URL,
  options?: {
    readonly headers?: Handshake.Headers | undefined
    readonly subprotocols?: ReadonlyArray<string> | undefined
  }
) => Effect.Effect<WebSocketProbe, ConnectError, TestNetwork | Scope.Scope> = Effect.fnUntraced(
  function*(input, { headers, subprotocols = [] } = {}) {
    const network = yield* TestNetwork
    const url = parseUrl(String(input))
    if (url._tag === "InvalidUrl") {
      return yield* new ConnectError({
        url: String(input),
        reason: new InvalidUrl({ url: String(input), detail: url.detail })
      })
    }
    const nonce = new Uint8Array(16)
    network.randomFill(nonce)
    const key = Handshake.encodeKey(nonce)
    const { transport } = yield* network.dial({
      url,
      headers: Handshake.requestHeaders({ key, host: url.hostHeader, subprotocols, headers })
    }).pipe(Effect.mapError((reason) => new ConnectError({ url: withoutCredentials(String(input)), reason })))
    yield* Effect.addFinalizer(network.tellSeed)
    return yield* make(transport, "client")
  }
)

/**
 * A request to a server that the test plays.
 *
 * **Details**
 *
 * `accept` answers 101 and gives the probe. Its `headers` are added to those of the handshake, or replace them, right or
 * wrong; `undefined` leaves one out. `reject` answers with anything else.
 *
 * @category models
 * @since 0.1.0
 */
export interface ProbeRequest {
  readonly url: string
  readonly headers: Handshake.Headers
  readonly accept: (
    options?: {
      readonly subprotocol?: string | undefined
      readonly headers?: Readonly<Record<string, string | ReadonlyArray<string> | undefined>> | undefined
    }
  ) => Effect.Effect<WebSocketProbe, never, Scope.Scope>
  readonly reject: (response: Response) => Effect.Effect<void>
}

/**
 * Listens in the network as a server that the test plays; gives the effect that waits for the next request.
 *
 * **Details**
 *
 * Without a `host`, it is asked for every host where nobody else listens.
 *
 * **Example** (A client that gets a Close)
 *
 * ```ts
 * import { WebSocketClient } from "@effect-ws/core"
 * import { TestNetwork, WebSocketProbe } from "@effect-ws/test-kit"
 * import { Effect, Fiber, Layer } from "effect"
 *
 * const test = Effect.gen(function*() {
 *   const nextRequest = yield* WebSocketProbe.listen()
 *   const connecting = yield* Effect.forkChild(WebSocketClient.connect("wss://feed.example/prices"))
 *   const request = yield* nextRequest
 *   const probe = yield* request.accept()
 *   const connection = yield* Fiber.join(connecting)
 *   yield* probe.sendClose(1013, "try again later")
 *   yield* probe.expectClose(1013)
 *   yield* probe.end
 *   return yield* connection.closed
 * }).pipe(
 *   Effect.scoped,
 *   Effect.provide(Layer.provideMerge(TestNetwork.layerClient, TestNetwork.layerNetwork()))
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const listen: (
  options?: { readonly host?: string | undefined; readonly port?: number | undefined }
) => Effect.Effect<Effect.Effect<ProbeRequest>, never, TestNetwork | Scope.Scope> = Effect.fnUntraced(
  function*({ host, port = 80 } = {}) {
    const network = yield* TestNetwork
    const upgrades = yield* Queue.unbounded<Upgrade>()
    yield* network.listen({ host, port, upgrade: (upgrade) => Queue.offerUnsafe(upgrades, upgrade) })
    return Effect.map(Queue.take(upgrades), (upgrade) => ({
      url: upgrade.url,
      headers: upgrade.headers,
      accept: ({ headers = {}, subprotocol } = {}) =>
        Effect.suspend(() => {
          const key = upgrade.headers["sec-websocket-key"] ?? ""
          const answer = new Map<string, string | ReadonlyArray<string>>(
            Object.entries(Handshake.responseHeaders({ key, sha1, subprotocol }))
          )
          for (const [name, value] of Object.entries(headers)) {
            if (value === undefined) answer.delete(name.toLowerCase())
            else answer.set(name.toLowerCase(), value)
          }
          const transport = upgrade.accept(Object.fromEntries(answer))
          return Effect.andThen(Effect.addFinalizer(network.tellSeed), make(transport, "server"))
        }),
      reject: (response) => Effect.sync(() => upgrade.reject(response))
    }))
  }
)

/**
 * Plays a transcript again: does what the recorded side did, and expects what it received, in the same order.
 *
 * **Details**
 *
 * The probe has the role of the side that was recorded; for the other one, take the `mirrored` transcript. Times do not
 * count, and the Pings and Pongs that were received are not expected.
 *
 * **Example** (A session of yesterday, against the server of today)
 *
 * ```ts
 * import { TestNetwork, Transcript, WebSocketProbe } from "@effect-ws/test-kit"
 * import { Effect } from "effect"
 *
 * const yesterday = `
 *        0 -> text               5 "hello"
 *      200 <- text               5 "hello"
 *     1000 -> close              5 1000 "bye"
 *     1200 <- close              5 1000 "bye"
 * `
 *
 * const test = Effect.gen(function*() {
 *   const probe = yield* WebSocketProbe.connect("ws://localhost")
 *   yield* WebSocketProbe.replay(probe, yield* Transcript.parse(yesterday))
 * })
 * ```
 *
 * @category transcripts
 * @since 0.1.0
 */
export const replay = (
  probe: WebSocketProbe,
  entries: ReadonlyArray<Transcript.Entry>
): Effect.Effect<void, ProbeError> =>
  Effect.forEach(entries, (entry) => {
    const isSent = entry.direction === "sent"
    switch (entry._tag) {
      case "Frame":
        if (isSent) return probe.send(entry.frame)
        return isHeartbeat(entry.frame) ? Effect.void : probe.expectFrame(entry.frame)
      case "End":
        return isSent ? probe.end : probe.expectEnd
      case "Closed":
        return isSent ? probe.reset : probe.expectEnd
    }
  }, { discard: true })

const isHeartbeat = ({ opcode }: Transcript.Frame): boolean => opcode === Opcode.ping || opcode === Opcode.pong

const shown = (frame: Wire.Frame): string => Transcript.formatFrame({ fin: true, rsv: 0, ...frame })

const isEqual = (left: Uint8Array, right: Uint8Array): boolean =>
  left.length === right.length && left.every((byte, i) => byte === right[i])
