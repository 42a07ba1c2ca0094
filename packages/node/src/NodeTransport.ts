/**
 * Node's sockets as transports.
 *
 * @since 0.1.0
 */
import { type Address, allCapabilities, type Transport, type TransportHandler } from "@effect-ws/core/Transport"
import { Socket } from "node:net"
import type { Duplex } from "node:stream"
import { TLSSocket } from "node:tls"
import { onRead } from "./internal/onread.ts"

const nothing = new Uint8Array(0)
// What may be on its way through TLS before a transport calls itself busy: two records (RFC 8446, section 5.1).
const mostInFlight = 32 * 1024

const sizeOf = (chunks: ReadonlyArray<Uint8Array>): number => chunks.reduce((size, chunk) => size + chunk.length, 0)

const writeAll = (socket: Duplex, chunks: ReadonlyArray<Uint8Array>, onWritten?: () => void): void => {
  const last = chunks.length - 1
  if (last > 0) socket.cork()
  for (let i = 0; i < last; i++) socket.write(chunks[i])
  socket.write(chunks[last] ?? nothing, onWritten)
  if (last > 0) socket.uncork()
}

// A listener for each event and socket would cost an idle connection more than anything else here, so they are shared, and
// find their transport by the socket.
const kTransport = Symbol("transport")
type Carrier = Duplex & { [kTransport]: SocketTransport }

function onError(this: Carrier, error: unknown): void {
  this[kTransport].cause = error
  // After its handshake, a TLS socket stays open when a record is broken.
  this.destroy()
}
function onClose(this: Carrier): void {
  this[kTransport].onClose()
}
function onEnd(this: Carrier): void {
  this[kTransport].handler?.onEnd()
}
function onData(this: Carrier, bytes: Uint8Array): void {
  this[kTransport].handler?.onData(bytes)
}
function target(this: Carrier): Uint8Array | undefined {
  return this[kTransport].handler?.target?.()
}

class SocketTransport implements Transport {
  readonly localAddress: Address | undefined
  readonly capabilities = allCapabilities
  private readonly socket: Duplex
  private isPaused = false
  handler: TransportHandler | undefined
  cause: unknown

  constructor(socket: Duplex) {
    this.socket = socket
    ;(socket as Carrier)[kTransport] = this
    // From the first moment: a reset before `start` must not be an unhandled error.
    socket.on("error", onError)
    if (socket instanceof Socket) {
      // A closed socket does not know its own end any more, and the other only if it was asked before.
      this.localAddress = localAddress(socket)
      void socket.remoteAddress
      socket.setNoDelay(true)
      socket.setTimeout(0)
    }
  }

  get peerAddress(): Address | undefined {
    return this.socket instanceof Socket ? peerAddress(this.socket) : undefined
  }

  start(handler: TransportHandler): void {
    const { socket } = this
    this.handler = handler
    // Events that have been do not come again.
    if (socket.closed) return queueMicrotask(() => this.onClose())
    if (socket.readableEnded) queueMicrotask(() => handler.onEnd())
    socket.on("close", onClose)
    socket.on("end", onEnd)
    if (onRead(socket as Carrier, onData, target)) {
      // What was read before, and the end if it was too.
      const before: Buffer | null = socket.read()
      if (before !== null) handler.onData(before)
    } else {
      socket.on("data", onData)
    }
    // Whoever had it before may have paused it.
    if (!this.isPaused) socket.resume()
  }

  onClose(): void {
    const { handler } = this
    this.handler = undefined
    handler?.onClose(this.cause)
  }

  pause(): void {
    this.isPaused = true
    this.socket.pause()
  }

  resume(): void {
    this.isPaused = false
    this.socket.resume()
  }

  write(chunks: ReadonlyArray<Uint8Array>): boolean {
    const { socket } = this
    if (socket instanceof TLSSocket) return this.writeEncrypted(socket, chunks)
    // A stream that is no socket may have called back and still hold on to what it was given: a copy.
    writeAll(socket, socket instanceof Socket ? chunks : [Buffer.concat(chunks)])
    // Nothing is left in the stream if the kernel took it all within the call.
    if (socket.writableLength === 0) return true
    // A callback for each write would cost each of them a tick; this one comes when all before it have left.
    socket.write(nothing, this.drained())
    return false
  }

  // TLS tells only in a later turn that it is done, but it has encrypted or copied the bytes within the call. Only those
  // behind an earlier write wait as they are.
  private writeEncrypted(socket: TLSSocket, chunks: ReadonlyArray<Uint8Array>): boolean {
    const earlier = socket.writableLength
    if (earlier + sizeOf(chunks) > mostInFlight) {
      writeAll(socket, chunks, this.drained())
      return false
    }
    writeAll(socket, earlier === 0 ? chunks : [Buffer.concat(chunks)])
    return true
  }

  private drained(): () => void {
    return () => {
      if (!this.socket.destroyed) this.handler?.onDrain()
    }
  }

  end(): void {
    if (!this.socket.writableEnded) this.socket.end()
  }

  destroy(): void {
    this.socket.destroy()
  }
}

/**
 * Makes a transport from a socket, or any duplex stream, after its opening handshake.
 *
 * **Details**
 *
 * `head` are bytes that were read behind the handshake; they arrive first. The transport takes the socket over: nothing
 * else may read from it, write to it or change its timeout.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromSocket = (socket: Duplex, head?: Uint8Array): Transport => {
  if (head !== undefined && head.length > 0) socket.unshift(head)
  return new SocketTransport(socket)
}

/**
 * The address of a socket's other end.
 *
 * @category addresses
 * @since 0.1.0
 */
export const peerAddress = (socket: Socket): Address | undefined => tcp(socket.remoteAddress, socket.remotePort)

/**
 * The address of a socket's own end.
 *
 * @category addresses
 * @since 0.1.0
 */
export const localAddress = (socket: Socket): Address | undefined => {
  const { localAddress: host, localPort: port } = socket
  // The sockets of a server mostly have the same.
  if (latest?._tag !== "Tcp" || latest.host !== host || latest.port !== port) latest = tcp(host, port)
  return latest
}

let latest: Address | undefined

const tcp = (host: string | undefined, port: number | undefined): Address | undefined =>
  host === undefined || port === undefined ? undefined : { _tag: "Tcp", host, port }
