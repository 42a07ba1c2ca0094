/**
 * What a connection does, as lines of the log. Nothing of this exists for a connection that is not logged.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { Opcode, rsv1 } from "../protocol/Frame.ts"
import type { Address, Transport } from "../Transport.ts"

/** Logs at debug level: a message, annotations without those that are undefined, and a cause if there is one. */
export type DebugLog = (
  message: string,
  annotations?: Readonly<Record<string, unknown>>,
  cause?: Cause.Cause<unknown>
) => void

/** Makes a log that adds `common` to its annotations. It can be called from callbacks: lines appear in their order. */
export const make = (context: Context.Context<never>, common: Readonly<Record<string, unknown>>): DebugLog => {
  const run = Effect.runForkWith(context)
  return (message, annotations, cause) => {
    const all = Object.entries({ ...common, ...annotations }).filter(([, value]) => value !== undefined)
    const line = cause === undefined ? Effect.logDebug(message) : Effect.logDebug(message, cause)
    run(Effect.annotateLogs(line, Object.fromEntries(all)))
  }
}

/** An address as people write it. */
export const formatAddress = (address: Address | undefined): string | undefined => {
  if (address === undefined) return undefined
  if (address._tag === "Unix") return address.path
  return `${address.host.includes(":") ? `[${address.host}]` : address.host}:${address.port}`
}

/** The path of a request target. What follows it may hold a secret. */
export const pathOf = (target: string): string => target.split("?", 1)[0]!

/** Logs the header of each frame that passes a transport, and its failure. */
export const logTransport = (transport: Transport, log: DebugLog): Transport => {
  const received = new HeaderScanner((header) => log("WebSocket frame received", { ...header }))
  const sent = new HeaderScanner((header) => log("WebSocket frame sent", { ...header }))
  return {
    peerAddress: transport.peerAddress,
    localAddress: transport.localAddress,
    capabilities: transport.capabilities,
    start: (handler) =>
      transport.start({
        onData: (chunk) => {
          received.push(chunk)
          handler.onData(chunk)
        },
        onDrain: () => handler.onDrain(),
        onOverrun: () => handler.onOverrun(),
        onEnd: () => handler.onEnd(),
        onClose: (cause) => {
          if (cause !== undefined) log("WebSocket transport failed", {}, Cause.fail(cause))
          handler.onClose(cause)
        }
      }),
    pause: () => transport.pause(),
    resume: () => transport.resume(),
    write: (chunks) => {
      for (const chunk of chunks) sent.push(chunk)
      return transport.write(chunks)
    },
    end: () => transport.end(),
    destroy: () => transport.destroy()
  }
}

interface Header {
  readonly opcode: string
  readonly bytes: number
  readonly fin: boolean
  readonly compressed: true | undefined
}

const names = new Map<number, string>(Object.entries(Opcode).map(([name, opcode]) => [opcode, name]))

// Finds the headers of frames and passes over their payloads. It judges nothing: what breaks a rule is to be seen too.
class HeaderScanner {
  private readonly onHeader: (header: Header) => void
  private header: Array<number> = []
  private payloadLeft = 0

  constructor(onHeader: (header: Header) => void) {
    this.onHeader = onHeader
  }

  push(chunk: Uint8Array): void {
    let at = 0
    while (at < chunk.length) {
      const passed = Math.min(this.payloadLeft, chunk.length - at)
      this.payloadLeft -= passed
      at += passed
      if (at < chunk.length) this.readHeader(chunk[at++]!)
    }
  }

  // RFC 6455, section 5.2.
  private readHeader(byte: number): void {
    const { header } = this
    header.push(byte)
    if (header.length < 2) return
    const [first, second] = header as [number, number]
    const short = second & 0x7f
    const extended = short === 126 ? 2 : short === 127 ? 8 : 0
    if (header.length < 2 + extended + (second & 0x80 ? 4 : 0)) return
    const bytes = extended === 0 ? short : header.slice(2, 2 + extended).reduce((sum, byte) => sum * 256 + byte, 0)
    this.header = []
    this.payloadLeft = bytes
    const opcode = first & 0xf
    this.onHeader({
      opcode: names.get(opcode) ?? `0x${opcode.toString(16)}`,
      bytes,
      fin: (first & 0x80) !== 0,
      compressed: ((first >> 4) & rsv1) === 0 ? undefined : true
    })
  }
}
