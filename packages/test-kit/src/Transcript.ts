/**
 * What passed on a connection, as a table that a person can read, compare and play again.
 *
 * @since 0.1.0
 */
import * as CloseFrame from "@effect-ws/core/protocol/CloseFrame"
import { Opcode } from "@effect-ws/core/protocol/Frame"
import * as Utf8 from "@effect-ws/core/protocol/Utf8"
import type { Transport } from "@effect-ws/core/Transport"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { FrameCollector } from "./internal/frameScanner.ts"
import * as Wire from "./Wire.ts"

/**
 * Something that passed: a frame, or the end of a direction.
 *
 * **Details**
 *
 * `at` are milliseconds since the recording began. `direction` is told from the end that was recorded.
 *
 * @category models
 * @since 0.1.0
 */
export type Entry =
  | { readonly _tag: "Frame"; readonly at: number; readonly direction: "sent" | "received"; readonly frame: Frame }
  | { readonly _tag: "End"; readonly at: number; readonly direction: "sent" | "received" }
  | { readonly _tag: "Closed"; readonly at: number; readonly direction: "sent" | "received" }

/**
 * A frame that passed, unmasked. The opcode may be a reserved one.
 *
 * @category models
 * @since 0.1.0
 */
export interface Frame {
  readonly fin: boolean
  readonly rsv: number
  readonly opcode: number
  readonly payload: Uint8Array
}

/**
 * A transport that is recorded, and the record.
 *
 * **Details**
 *
 * `Closed` is entered as sent when this end dropped the connection, as received when it learnt that it is over.
 *
 * @category models
 * @since 0.1.0
 */
export interface Recording {
  readonly transport: Transport
  readonly entries: Effect.Effect<ReadonlyArray<Entry>>
}

/**
 * How much of a recording is kept. With `maxBytes`, the oldest entries are forgotten when the payloads of all, and 64 bytes
 * for each, are more; without, everything is kept.
 *
 * @category models
 * @since 0.1.0
 */
export interface RecordOptions {
  readonly maxBytes?: number | undefined
}

/**
 * Gives the function that records what passes through a transport, with the times of the `Clock`.
 *
 * **When to use**
 *
 * Around any transport, in production too: with the option `wrap` of a server or of `connect`. In a `TestNetwork`, its own
 * `wrap` puts it around all. A `WebSocketProbe` records itself.
 *
 * **Gotchas**
 *
 * Without `maxBytes` it keeps every payload for as long as it is kept itself: in production, set it. Messages that are
 * compressed are recorded as they pass.
 *
 * **Example** (All connections of a network)
 *
 * ```ts
 * import { TestNetwork, Transcript } from "@effect-ws/test-kit"
 * import { Effect, Layer } from "effect"
 *
 * const recordings: Array<Transcript.Recording> = []
 *
 * const network = Layer.unwrap(Effect.map(Transcript.recorder, (record) =>
 *   TestNetwork.layerWith({
 *     wrap: (transport, role) => {
 *       if (role === "server") return transport
 *       const recording = record(transport)
 *       recordings.push(recording)
 *       return recording.transport
 *     }
 *   })))
 * ```
 *
 * @category recording
 * @since 0.1.0
 */
export const recorder: Effect.Effect<(transport: Transport, options?: RecordOptions) => Recording> = Clock.clockWith(
  (clock) => Effect.succeed((transport, { maxBytes = Infinity } = {}) => record(transport, clock, maxBytes))
)

const sizeOf = (entry: Entry): number => 64 + (entry._tag === "Frame" ? entry.frame.payload.length : 0)

const record = (transport: Transport, clock: Clock.Clock, maxBytes: number): Recording => {
  const began = clock.currentTimeMillisUnsafe()
  const entries: Array<Entry> = []
  const sent = new FrameCollector()
  const received = new FrameCollector()
  let isDropped = false
  let bytes = 0
  const at = () => clock.currentTimeMillisUnsafe() - began
  const enter = (entry: Entry) => {
    entries.push(entry)
    bytes += sizeOf(entry)
    while (bytes > maxBytes) bytes -= sizeOf(entries.shift()!)
  }
  const collect = (direction: Entry["direction"], chunk: Uint8Array) => {
    const frames = (direction === "sent" ? sent : received).push(chunk)
    for (const { fin, opcode, payload, rsv } of frames) {
      enter({ _tag: "Frame", at: at(), direction, frame: { fin, rsv, opcode, payload } })
    }
  }
  return {
    entries: Effect.sync(() => [...entries]),
    transport: {
      peerAddress: transport.peerAddress,
      localAddress: transport.localAddress,
      capabilities: transport.capabilities,
      start: (handler) =>
        transport.start({
          onData: (chunk) => {
            collect("received", chunk)
            handler.onData(chunk)
          },
          onDrain: () => handler.onDrain(),
          onOverrun: () => handler.onOverrun(),
          onEnd: () => {
            enter({ _tag: "End", at: at(), direction: "received" })
            handler.onEnd()
          },
          onClose: (cause) => {
            if (!isDropped) enter({ _tag: "Closed", at: at(), direction: "received" })
            handler.onClose(cause)
          }
        }),
      pause: () => transport.pause(),
      resume: () => transport.resume(),
      write: (chunks) => {
        for (const chunk of chunks) collect("sent", chunk)
        return transport.write(chunks)
      },
      end: () => {
        enter({ _tag: "End", at: at(), direction: "sent" })
        transport.end()
      },
      destroy: () => {
        if (!isDropped) enter({ _tag: "Closed", at: at(), direction: "sent" })
        isDropped = true
        transport.destroy()
      }
    }
  }
}

/**
 * The transcript as the other side would have recorded it: what was sent was received there.
 *
 * @category recording
 * @since 0.1.0
 */
export const mirrored = (entries: ReadonlyArray<Entry>): ReadonlyArray<Entry> =>
  entries.map((entry) => Object.assign({}, entry, { direction: entry.direction === "sent" ? "received" : "sent" }))

const names = new Map<number, string>(Object.entries(Opcode).map(([name, opcode]) => [opcode, name]))
const opcodes = new Map<string, number>(Object.entries(Opcode))
const arrows = { sent: "->", received: "<-" } as const
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")

const textOf = (bytes: Uint8Array): string | undefined => {
  try {
    return decoder.decode(bytes)
  } catch {
    return undefined
  }
}

// Quoted if it is text, hexadecimal otherwise; a Close shows its code.
const show = ({ opcode, payload }: Frame, maxBytes: number): string => {
  if (opcode === Opcode.close && payload.length >= 2) {
    const close = CloseFrame.decode(payload, Utf8.portable)
    if (!("_tag" in close)) return `${close.code} ${JSON.stringify(close.reason)}`
  }
  const isCut = payload.length > maxBytes
  const shown = isCut ? payload.subarray(0, maxBytes) : payload
  const text = opcode === Opcode.text || opcode === Opcode.continuation ? textOf(shown) : undefined
  return (text === undefined ? hex(shown) : JSON.stringify(text)) + (isCut ? "..." : "")
}

/**
 * Shows a frame in a line, such as `text 5 "hello"`, `text+ 3 "hel"` (more fragments follow) or `close 5 1000 "bye"`.
 *
 * @category formatting
 * @since 0.1.0
 */
export const formatFrame = (frame: Frame, options: { readonly maxBytes?: number | undefined } = {}): string => {
  const name = (names.get(frame.opcode) ?? `0x${frame.opcode.toString(16)}`) + (frame.fin ? "" : "+") +
    (frame.rsv === 0 ? "" : `/rsv${frame.rsv}`)
  return `${name} ${frame.payload.length} ${show(frame, options.maxBytes ?? 48)}`.trimEnd()
}

/**
 * Shows a transcript as a table: milliseconds, direction, opcode, length and payload.
 *
 * **Details**
 *
 * `maxBytes` of each payload are shown, 48 by default. With `Infinity` the table is complete, and {@link parse} reads it.
 *
 * @category formatting
 * @since 0.1.0
 */
export const format = (
  entries: ReadonlyArray<Entry>,
  options: { readonly maxBytes?: number | undefined } = {}
): string =>
  entries.map((entry) => {
    const head = `${String(entry.at).padStart(8)} ${arrows[entry.direction]}`
    if (entry._tag !== "Frame") return `${head} ${entry._tag.toLowerCase()}`
    const [name = "", length = "", ...rest] = formatFrame(entry.frame, options).split(" ")
    return `${head} ${name.padEnd(13)} ${length.padStart(7)} ${rest.join(" ")}`.trimEnd()
  }).join("\n")

/**
 * A line of a text is not that of a complete transcript.
 *
 * @category errors
 * @since 0.1.0
 */
export class TranscriptError extends Schema.TaggedError<TranscriptError>(
  "@effect-ws/test-kit/Transcript/TranscriptError"
)("TranscriptError", { line: Schema.Int, text: Schema.String }) {
  override get message() {
    return `line ${this.line} is not one of a complete transcript: ${this.text}`
  }
}

/**
 * Reads what {@link format} wrote with `maxBytes: Infinity`. Empty lines, and those that begin with `#`, are passed over.
 *
 * @category formatting
 * @since 0.1.0
 */
export const parse: (text: string) => Effect.Effect<ReadonlyArray<Entry>, TranscriptError> = Effect.fnUntraced(
  function*(text) {
    const entries: Array<Entry> = []
    for (const [i, line] of text.split("\n").entries()) {
      if (line.trim() === "" || line.startsWith("#")) continue
      const entry = parseLine(line)
      if (entry === undefined) return yield* new TranscriptError({ line: i + 1, text: line })
      entries.push(entry)
    }
    return entries
  }
)

const parseLine = (line: string): Entry | undefined => {
  const [, time, arrow, name = "", rest = ""] = /^ *(\d+) (->|<-) (\S+)(.*)$/.exec(line) ?? []
  if (time === undefined) return undefined
  const at = Number(time)
  const direction = arrow === "->" ? "sent" : "received"
  if (name === "end" && rest === "") return { _tag: "End", at, direction }
  if (name === "closed" && rest === "") return { _tag: "Closed", at, direction }
  const [, opcodeName = "", more, rsv = "0"] = /^([a-z]+|0x[0-9a-f])(\+)?(?:\/rsv([1-7]))?$/.exec(name) ?? []
  const opcode = opcodes.get(opcodeName) ?? (opcodeName.startsWith("0x") ? Number(opcodeName) : undefined)
  const [, length, shown = ""] = /^ +(\d+) ?(.*)$/.exec(rest) ?? []
  const payload = parsePayload(shown)
  if (opcode === undefined || payload === undefined || payload.length !== Number(length)) return undefined
  return { _tag: "Frame", at, direction, frame: { fin: more === undefined, rsv: Number(rsv), opcode, payload } }
}

const QuotedText = Schema.fromJsonString(Schema.String)

const parsePayload = (shown: string): Uint8Array | undefined => {
  const [, code, quoted] = /^(?:(\d+) )?(".*")$/.exec(shown) ?? []
  if (quoted !== undefined) {
    const text = Schema.decodeUnknownOption(QuotedText)(quoted)
    if (text._tag === "None") return undefined
    return code === undefined ? Wire.text(text.value).payload : Wire.close(Number(code), text.value).payload
  }
  if (!/^(?:[0-9a-f]{2})*$/.test(shown)) return undefined
  return Uint8Array.from(shown.match(/../g) ?? [], (byte) => Number.parseInt(byte, 16))
}
