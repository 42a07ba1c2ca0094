/**
 * Reading a socket past the machinery of streams.
 *
 * @since 0.1.0
 */
import { Buffer } from "node:buffer"
import { Socket } from "node:net"
import type { Duplex } from "node:stream"
import { TLSSocket } from "node:tls"

// All sockets read into one buffer: it is lent to one of them at a time.
const shared = Buffer.allocUnsafeSlow(64 * 1024)

// A socket that is made with the option `onread` has these. Ours are accepted, or made by `node:http`, which has no such
// option; but a socket asks for its buffer and its callback at each read.
const symbols = Object.getOwnPropertySymbols(new Socket())
const named = (name: string) => symbols.find(({ description }) => description === name)
const [kBuffer, kBufferCb, kBufferGen] = ["kBuffer", "kBufferCb", "kBufferGen"].map(named)

/**
 * Lets a socket call back with what it reads, instead of emitting it; `false` if it cannot, and nothing has changed.
 *
 * **Details**
 *
 * What was read before stays in the stream. The bytes are lent for the length of the call, whose `this` is the socket.
 * `pause`, `resume` and the event `end` work as without it.
 */
export const onRead = <S extends Duplex>(socket: S, callback: (this: S, bytes: Buffer) => void): boolean => {
  if (!isOverHandle(socket)) return false
  if (kBuffer === undefined || kBufferCb === undefined || kBufferGen === undefined) return false
  const internal = socket as unknown as Record<symbol, unknown> & {
    readonly _handle?: { readonly useUserBuffer?: (buffer: Buffer) => void } | null
  }
  const handle = internal._handle
  if (typeof handle?.useUserBuffer !== "function" || internal[kBufferGen] !== null) return false
  internal[kCallback] = callback
  internal[kBuffer] = shared
  internal[kBufferCb] = deliver
  handle.useUserBuffer(shared)
  return true
}

// Reads come one after the other, as the shared buffer needs it, only where the handle is one of the system's: TLS over a
// stream would read within the stream's own calls.
const isOverHandle = (socket: Duplex): boolean => {
  const prototype = Object.getPrototypeOf(socket)
  if (prototype !== TLSSocket.prototype) return prototype === Socket.prototype
  const { _handle: handle } = socket as unknown as {
    readonly _handle?: { readonly _parentWrap?: Duplex | null } | null
  }
  const carrier = handle?._parentWrap
  return carrier === null || (carrier !== undefined && Object.getPrototypeOf(carrier) === Socket.prototype)
}

const kCallback = Symbol("onRead")

function deliver(this: Duplex & { [kCallback]: (bytes: Buffer) => void }, length: number): boolean {
  this[kCallback](shared.subarray(0, length))
  return true
}
