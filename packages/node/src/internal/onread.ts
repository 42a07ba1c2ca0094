/**
 * Reading a socket past the machinery of streams.
 *
 * @since 0.1.0
 */
import * as Mask from "@effect-ws/core/protocol/Mask"
import { Socket } from "node:net"
import type { Duplex } from "node:stream"
import { TLSSocket } from "node:tls"

// All sockets read into one buffer: it is lent to one of them at a time.
const shared = Mask.readBuffer()

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
 * What was read before stays in the stream. The bytes are lent for the length of the call, whose `this` is the socket;
 * `target`, called behind it, may tell where to read to next. `pause`, `resume` and the event `end` work as without it.
 */
export const onRead = <S extends Duplex>(
  socket: S,
  callback: (this: S, bytes: Uint8Array) => void,
  target: (this: S) => Uint8Array | undefined
): boolean => {
  if (!isOverHandle(socket)) return false
  if (kBuffer === undefined || kBufferCb === undefined || kBufferGen === undefined) return false
  const internal = socket as unknown as Record<symbol, unknown> & {
    readonly _handle?: { readonly useUserBuffer?: (buffer: Uint8Array) => void } | null
  }
  const handle = internal._handle
  if (typeof handle?.useUserBuffer !== "function" || internal[kBufferGen] !== null) return false
  internal[kCallback] = callback
  internal[kTarget] = target
  internal[kBuffer] = shared
  internal[kBufferCb] = deliver
  internal[kBufferGen] = takeNext
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
const kTarget = Symbol("target")

interface Reader extends Duplex {
  [kCallback]: (bytes: Uint8Array) => void
  [kTarget]: () => Uint8Array | undefined
}

// What the socket whose turn it is reads to from now on, or `undefined` if that stays the same. The socket asks for it behind
// each `deliver`, in the same turn.
let next: Uint8Array | undefined
const takeNext = () => next

function deliver(this: Reader, length: number, buffer: Uint8Array): boolean {
  try {
    this[kCallback](buffer.subarray(0, length))
  } catch (error) {
    // Thrown from here, the socket would not ask where to read to next, and overwrite what it has read.
    queueMicrotask(() => {
      throw error
    })
  }
  next = this[kTarget]() ?? (buffer === shared ? undefined : shared)
  return true
}
