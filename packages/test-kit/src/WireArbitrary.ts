/**
 * Messages, frames and worse, for property tests.
 *
 * @since 0.1.0
 */
import type { Message } from "@effect-ws/core/Message"
import { Opcode, type Role } from "@effect-ws/core/protocol/Frame"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import { concat } from "./internal/frameScanner.ts"
import * as Wire from "./Wire.ts"

const between = (minimum: number, maximum: number) =>
  Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum, maximum })))

const oneOf = <A>(...choices: readonly [Arbitrary.Arbitrary<A>, ...Array<Arbitrary.Arbitrary<A>>]) =>
  Arbitrary.flatMap(between(0, choices.length - 1), (i) => choices[i]!)

// Around the lengths where the header of a frame grows.
const length = oneOf(between(0, 40), between(120, 130), between(65_530, 65_540))

const bytes: Arbitrary.Arbitrary<Uint8Array> = Arbitrary.map(
  Arbitrary.all([length, between(0, 255)]),
  ([length, seed]) => Wire.pattern(length, seed)
)

// Characters of one to four bytes, none of them half of one.
const textMessage: Arbitrary.Arbitrary<string> = Arbitrary.map(
  Arbitrary.array(Arbitrary.schema(Schema.Literals(["a", "\0", "é", "€", "𝄞", "\ufeff", "\ufffd"]))),
  (characters) => characters.join("")
)

/**
 * A message, with lengths around those where the header of a frame grows (126 and 65,536 bytes).
 *
 * @category arbitraries
 * @since 0.1.0
 */
export const message: Arbitrary.Arbitrary<Message> = oneOf<Message>(textMessage, bytes)

const controlPayload = Arbitrary.map(between(0, 125), (length) => Wire.pattern(length))

const pingOrPong: Arbitrary.Arbitrary<Wire.Frame> = Arbitrary.map(
  Arbitrary.all([Arbitrary.schema(Schema.Literals([Opcode.ping, Opcode.pong])), controlPayload]),
  ([opcode, payload]) => Wire.frame(opcode, payload)
)

/**
 * A message in frames: one or many fragments, some of them empty, with Pings and Pongs in between. All of it is legal.
 *
 * @category models
 * @since 0.1.0
 */
export interface Fragmented {
  readonly message: Message
  readonly frames: ReadonlyArray<Wire.Frame>
}

/**
 * A message, cut into frames in any way that RFC 6455, section 5.4, allows.
 *
 * @category arbitraries
 * @since 0.1.0
 */
export const fragmented: Arbitrary.Arbitrary<Fragmented> = Arbitrary.map(
  Arbitrary.all([
    message,
    Arbitrary.array(between(0, 0x7fff_ffff), { maxLength: 5 }),
    Arbitrary.array(Arbitrary.all([between(0, 5), pingOrPong]), { maxLength: 3 })
  ]),
  ([message, cuts, controls]) => {
    const opcode = typeof message === "string" ? Opcode.text : Opcode.binary
    const parts = split(Wire.bytesOf(message), cuts)
    const frames = parts.map((part, i) =>
      Wire.frame(i === 0 ? opcode : Opcode.continuation, part, { fin: i === parts.length - 1 })
    )
    for (const [at, control] of controls) frames.splice(Math.min(at, frames.length - 1), 0, control)
    return { message, frames }
  }
)

/**
 * A way to cut bytes into chunks, as a network may: whole, byte by byte (up to 4 KiB), or anywhere; some chunks may be
 * empty.
 *
 * @category arbitraries
 * @since 0.1.0
 */
export const chunking: Arbitrary.Arbitrary<(bytes: Uint8Array) => ReadonlyArray<Uint8Array>> = Arbitrary.map(
  Arbitrary.all([between(0, 4), Arbitrary.array(between(0, 0x7fff_ffff), { maxLength: 20 })]),
  ([kind, cuts]) => (bytes) => {
    if (kind === 0) return [bytes]
    if (kind === 1 && bytes.length <= 4096) return Array.from(bytes, (byte) => Uint8Array.of(byte))
    return split(bytes, cuts)
  }
)

// Cuts at each position, taken modulo the length; where positions meet, a part is empty.
const split = (bytes: Uint8Array, cuts: ReadonlyArray<number>): Array<Uint8Array> => {
  const sorted = cuts.map((cut) => cut % (bytes.length + 1)).toSorted((a, b) => a - b)
  return [0, ...sorted].map((start, i) => bytes.subarray(start, sorted[i] ?? bytes.length))
}

const anyFrame: Arbitrary.Arbitrary<Wire.Frame> = Arbitrary.map(
  Arbitrary.all({
    opcode: between(0, 15),
    payload: controlPayload,
    fin: Arbitrary.schema(Schema.Boolean),
    rsv: oneOf(Arbitrary.Constant(0), between(0, 7)),
    lie: between(0, 9)
  }),
  ({ fin, lie, opcode, payload, rsv }) => ({
    opcode,
    payload,
    fin,
    rsv,
    ...(lie === 0 ? { announced: 2 ** 40 } : lie === 1 ? { lengthBits: 64 } : lie === 2 ? { masked: false } : {})
  })
)

/**
 * What a hostile peer of the given role may send: frames that are legal, frames that break any rule, and noise.
 *
 * @category arbitraries
 * @since 0.1.0
 */
export const hostile = (role: Role): Arbitrary.Arbitrary<Uint8Array> =>
  Arbitrary.map(
    Arbitrary.array(
      oneOf(
        Arbitrary.map(fragmented, ({ frames }) => Wire.encode(role, frames)),
        Arbitrary.map(anyFrame, (frame) => Wire.encode(role, [frame])),
        Arbitrary.map(Arbitrary.array(between(0, 255), { maxLength: 20 }), (noise) => Uint8Array.from(noise))
      ),
      { maxLength: 6 }
    ),
    concat
  )

/**
 * The head of an opening request, as a server gets it. `isLegal` tells whether RFC 6455, section 4.2.1, demands to accept
 * it.
 *
 * @category models
 * @since 0.1.0
 */
export interface OpeningRequest {
  readonly method: string
  readonly httpVersion: string
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly isLegal: boolean
}

// Each with what it does to a request: all but the first break it.
const faults: ReadonlyArray<(request: OpeningRequest) => Partial<OpeningRequest>> = [
  () => ({}),
  () => ({ method: "POST" }),
  () => ({ httpVersion: "1.0" }),
  ...["host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version"].map(
    (name) => ({ headers }: OpeningRequest) => ({
      headers: Object.fromEntries(Object.entries(headers).filter(([key]) => key !== name))
    })
  ),
  ({ headers }) => ({ headers: { ...headers, "sec-websocket-key": "short" } }),
  ({ headers }) => ({ headers: { ...headers, "sec-websocket-version": "8" } }),
  ({ headers }) => ({ headers: { ...headers, "sec-websocket-protocol": "a,,b c" } }),
  ({ headers }) => ({ headers: { ...headers, "sec-websocket-extensions": "x; =" } })
]

/**
 * An opening request: half of them legal, in any spelling that is allowed, the others with one fault.
 *
 * @category arbitraries
 * @since 0.1.0
 */
export const openingRequest: Arbitrary.Arbitrary<OpeningRequest> = Arbitrary.map(
  Arbitrary.all({
    upgrade: Arbitrary.schema(Schema.Literals(["websocket", "WebSocket", "h2c, websocket"])),
    connection: Arbitrary.schema(Schema.Literals(["Upgrade", "upgrade", "keep-alive, Upgrade"])),
    key: Arbitrary.schema(Schema.Literals(["dGhlIHNhbXBsZSBub25jZQ==", "AAAAAAAAAAAAAAAAAAAAAA=="])),
    protocols: Arbitrary.array(Arbitrary.schema(Schema.Literals(["v1", "v2", "chat"])), { maxLength: 3 }),
    url: Arbitrary.schema(Schema.Literals(["/", "/chat?room=1", "//x", "/%C3%BC"])),
    fault: oneOf(Arbitrary.Constant(0), between(1, faults.length - 1))
  }),
  ({ connection, fault, key, protocols, upgrade, url }) => {
    const offered = [...new Set(protocols)].join(", ")
    const legal: OpeningRequest = {
      method: "GET",
      httpVersion: "1.1",
      url,
      headers: {
        host: "localhost",
        upgrade,
        connection,
        "sec-websocket-key": key,
        "sec-websocket-version": "13",
        ...(offered === "" ? {} : { "sec-websocket-protocol": offered })
      },
      isLegal: true
    }
    return fault === 0 ? legal : { ...legal, ...faults[fault]!(legal), isLegal: false }
  }
)
