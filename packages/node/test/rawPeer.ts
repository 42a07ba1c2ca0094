import { Cause, Deferred, Effect, Queue, type Scope } from "effect"
import { createHash } from "node:crypto"
import * as Net from "node:net"
import { Duplex } from "node:stream"
import * as Tls from "node:tls"

/** A frame as it was on the wire; the payload is unmasked. */
export interface RawFrame {
  readonly fin: boolean
  readonly opcode: number
  readonly masked: boolean
  readonly payload: Buffer
}

/** A TCP socket that sends any bytes and keeps what it gets. */
export class RawPeer {
  readonly socket: Net.Socket
  /** How the socket ended; `undefined` without an error. */
  readonly closed: Effect.Effect<NodeJS.ErrnoException | undefined>
  private received = Buffer.alloc(0)
  private hasEnded = false
  private readonly waiting = new Set<() => void>()

  constructor(socket: Net.Socket) {
    this.socket = socket
    const closed = Deferred.makeUnsafe<NodeJS.ErrnoException | undefined>()
    this.closed = Deferred.await(closed)
    let error: NodeJS.ErrnoException | undefined
    socket.on("error", (cause) => {
      error = cause
    })
    socket.on("data", (chunk) => {
      this.received = Buffer.concat([this.received, chunk])
      this.wake()
    })
    socket.on("end", () => {
      this.hasEnded = true
      this.wake()
    })
    socket.on("close", () => {
      this.hasEnded = true
      this.wake()
      Deferred.doneUnsafe(closed, Effect.succeed(error))
    })
  }

  /** Sends bytes; a string is sent as Latin-1. */
  send(...parts: ReadonlyArray<Uint8Array | string>): Effect.Effect<void> {
    const bytes = Buffer.concat(parts.map((part) => typeof part === "string" ? Buffer.from(part, "latin1") : part))
    return Effect.callback<void>((resume) => {
      this.socket.write(bytes, () => resume(Effect.void))
    })
  }

  /** Takes the head of an HTTP message, its empty line included. */
  get head(): Effect.Effect<string, Cause.Done> {
    return this.take(() => {
      const end = this.received.indexOf("\r\n\r\n")
      return end === -1 ? undefined : end + 4
    }, (bytes) => bytes.toString("latin1"))
  }

  /** Takes a frame. */
  get frame(): Effect.Effect<RawFrame, Cause.Done> {
    return this.take(() => frameLength(this.received), parseFrame)
  }

  /** Takes a number of bytes. */
  bytes(count: number): Effect.Effect<Buffer, Cause.Done> {
    return this.take(() => this.received.length < count ? undefined : count, (bytes) => bytes)
  }

  /** Waits for the end of what comes, and takes all of it. */
  get rest(): Effect.Effect<Buffer> {
    return Effect.orDie(this.take(() => this.hasEnded ? this.received.length : undefined, (bytes) => bytes))
  }

  /** Ends what this side sends. */
  get end(): Effect.Effect<void> {
    return Effect.sync(() => void this.socket.end())
  }

  /** Drops the connection with a TCP reset. */
  get reset(): Effect.Effect<void> {
    return Effect.sync(() => void this.socket.resetAndDestroy())
  }

  private wake(): void {
    for (const check of this.waiting) check()
  }

  private take<A>(length: () => number | undefined, read: (bytes: Buffer) => A): Effect.Effect<A, Cause.Done> {
    return Effect.callback((resume) => {
      const check = () => {
        const count = length()
        if (count === undefined && !this.hasEnded) return
        this.waiting.delete(check)
        if (count === undefined) return resume(Cause.done())
        const bytes = Buffer.from(this.received.subarray(0, count))
        this.received = this.received.subarray(count)
        resume(Effect.succeed(read(bytes)))
      }
      this.waiting.add(check)
      check()
      return Effect.sync(() => this.waiting.delete(check))
    })
  }
}

/** Connects a raw socket. */
export const connectRaw = (port: number, host = "127.0.0.1"): Effect.Effect<RawPeer, unknown, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<RawPeer, unknown>((resume) => {
      const socket = Net.connect({ port, host, allowHalfOpen: true }, () => resume(Effect.succeed(new RawPeer(socket))))
      socket.once("error", (cause) => resume(Effect.fail(cause)))
    }),
    ({ socket }) => Effect.sync(() => socket.destroy())
  )

/** Connects a raw socket and completes the TLS handshake, or fails with what went wrong in it. */
export const connectTls = (
  port: number,
  options: Tls.ConnectionOptions = {}
): Effect.Effect<RawPeer, unknown, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<RawPeer, unknown>((resume) => {
      const settings = { port, host: "127.0.0.1", allowHalfOpen: true, rejectUnauthorized: false, ...options }
      const socket = Tls.connect(settings, () => resume(Effect.succeed(new RawPeer(socket))))
      socket.once("error", (cause) => resume(Effect.fail(cause)))
    }),
    ({ socket }) => Effect.sync(() => socket.destroy())
  )

const listen = Effect.fnUntraced(function*(create: (onSocket: (socket: Net.Socket) => void) => Net.Server) {
  const accepted = yield* Queue.unbounded<RawPeer>()
  const sockets = new Set<Net.Socket>()
  const server = create((socket) => {
    sockets.add(socket)
    Queue.offerUnsafe(accepted, new RawPeer(socket))
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () =>
      Effect.callback<void>((resume) => {
        for (const socket of sockets) socket.destroy()
        server.close(() => resume(Effect.void))
      })
  )
  const { port } = server.address() as Net.AddressInfo
  const scheme = server instanceof Tls.Server ? "wss" : "ws"
  return { port, url: `${scheme}://127.0.0.1:${port}`, accept: Queue.take(accepted) }
})

/** Listens for raw sockets: `accept` takes the next one. */
export const listenRaw = listen((onSocket) => Net.createServer({ allowHalfOpen: true }, onSocket))

/** Listens for TLS: `accept` takes the next socket that has completed the TLS handshake. */
export const listenTls = (options: Tls.TlsOptions) =>
  listen((onSocket) => Tls.createServer({ allowHalfOpen: true, ...options }, onSocket))

/** A peer's socket as something to speak TLS over, so that other bytes can be sent behind the back of TLS. */
export const carrierOf = ({ socket }: RawPeer): Duplex => {
  const carrier = new Duplex({ read() {}, write: (chunk, _, done) => void socket.write(chunk, done) })
  socket.on("data", (chunk) => carrier.push(chunk))
  return carrier
}

/** A TLS record that is not what anybody has encrypted. */
export const brokenRecord = Buffer.concat([Buffer.from([0x17, 3, 3, 0, 32]), Buffer.alloc(32)])

/** The key of the example in RFC 6455, section 1.3, and the answer to it. */
export const sampleKey = "dGhlIHNhbXBsZSBub25jZQ=="
export const sampleAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

/** An opening request; a header of `undefined` is left out, one of several values repeated. */
export const openingRequest = (options: {
  readonly method?: string
  readonly target?: string
  readonly version?: string
  readonly headers?: Readonly<Record<string, string | ReadonlyArray<string> | undefined>>
} = {}): string => {
  const headers = {
    "Host": "127.0.0.1",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": sampleKey,
    "Sec-WebSocket-Version": "13",
    ...options.headers
  }
  const lines = Object.entries(headers).flatMap(([name, value]) =>
    value === undefined ? [] : [value].flat().map((each) => `${name}: ${each}\r\n`)
  )
  const { method = "GET", target = "/", version = "HTTP/1.1" } = options
  return `${method} ${target} ${version}\r\n${lines.join("")}\r\n`
}

/** Headers to add or, with `undefined`, to leave out. */
type Changes = Readonly<Record<string, string | undefined>>

/** A 101 that answers the request. */
export const switching = (request: string, changes: Changes = {}, status = "101 Switching Protocols"): string => {
  const key = /sec-websocket-key: (.*)\r\n/i.exec(request)?.[1] ?? ""
  const accept = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64")
  const headers = { "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": accept, ...changes }
  const lines = Object.entries(headers).map(([name, value]) => value === undefined ? "" : `${name}: ${value}\r\n`)
  return `HTTP/1.1 ${status}\r\n${lines.join("")}\r\n`
}

/** Completes the opening handshake. */
const upgrade = Effect.fnUntraced(function*(peer: RawPeer, target: string) {
  yield* peer.send(openingRequest({ target }))
  const head = yield* peer.head
  if (!head.startsWith("HTTP/1.1 101 ")) return yield* Effect.die(new Error(`not upgraded: ${head}`))
  return peer
})

/** Connects a raw socket and completes the opening handshake. */
export const upgradeRaw = (port: number, target = "/") =>
  Effect.flatMap(connectRaw(port), (peer) => upgrade(peer, target))

/** Connects a raw socket and completes the TLS and the opening handshake. */
export const upgradeTls = (port: number, target = "/") =>
  Effect.flatMap(connectTls(port), (peer) => upgrade(peer, target))

/** The response that a raw peer got: its status, headers and body. */
export const response = Effect.fnUntraced(function*(peer: RawPeer) {
  const head = yield* peer.head
  const [statusLine = "", ...lines] = head.trimEnd().split("\r\n")
  const headers = Object.fromEntries(lines.map((line) => {
    const colon = line.indexOf(":")
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
  }))
  const body = yield* peer.bytes(Number(headers["content-length"] ?? 0))
  return { status: Number(statusLine.split(" ")[1]), headers, body: body.toString() }
})

export const opcodes = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const

/** A frame in bytes; masked, as a client's is, unless `masked` is false. */
export const frame = (
  opcode: keyof typeof opcodes,
  payload: Uint8Array | string = "",
  options: { readonly masked?: boolean; readonly fin?: boolean; readonly rsv?: number } = {}
): Buffer => {
  const { fin = true, masked = true, rsv = 0 } = options
  const data = Buffer.from(payload)
  const { length } = data
  const extra = length < 126 ? 0 : length < 65536 ? 2 : 8
  const head = Buffer.alloc(2 + extra)
  head.writeUInt8((fin ? 0x80 : 0) | (rsv << 4) | opcodes[opcode], 0)
  head.writeUInt8((masked ? 0x80 : 0) | (extra === 0 ? length : extra === 2 ? 126 : 127), 1)
  if (extra === 2) head.writeUInt16BE(length, 2)
  if (extra === 8) head.writeBigUInt64BE(BigInt(length), 2)
  return masked ? Buffer.concat([head, maskKey, mask(data, maskKey)]) : Buffer.concat([head, data])
}

const maskKey = Buffer.from([0x12, 0x34, 0x56, 0x78])

const mask = (data: Buffer, key: Buffer): Buffer => data.map((byte, i) => byte ^ key.readUInt8(i & 3)) as Buffer

/** A Close frame in bytes. */
export const closeFrame = (code: number, reason = "", options: { readonly masked?: boolean } = {}): Buffer =>
  frame("close", Buffer.concat([Buffer.from([code >>> 8, code & 255]), Buffer.from(reason)]), options)

/** Code and reason of a Close frame. */
export const closeOf = (
  { opcode, payload }: RawFrame
): { readonly code: number; readonly reason: string } | undefined =>
  opcode === opcodes.close ? { code: payload.readUInt16BE(0), reason: payload.subarray(2).toString() } : undefined

const headLength = (bytes: Buffer): { readonly start: number; readonly length: number } | undefined => {
  if (bytes.length < 2) return undefined
  const short = bytes.readUInt8(1) & 0x7f
  const extra = short === 126 ? 2 : short === 127 ? 8 : 0
  if (bytes.length < 2 + extra) return undefined
  const length = short === 126 ? bytes.readUInt16BE(2) : short === 127 ? Number(bytes.readBigUInt64BE(2)) : short
  return { start: 2 + extra + (bytes.readUInt8(1) & 0x80 ? 4 : 0), length }
}

const frameLength = (bytes: Buffer): number | undefined => {
  const head = headLength(bytes)
  return head === undefined || bytes.length < head.start + head.length ? undefined : head.start + head.length
}

const parseFrame = (bytes: Buffer): RawFrame => {
  const { start } = headLength(bytes) ?? { start: 0 }
  const masked = (bytes.readUInt8(1) & 0x80) !== 0
  const payload = bytes.subarray(start)
  return {
    fin: (bytes.readUInt8(0) & 0x80) !== 0,
    opcode: bytes.readUInt8(0) & 15,
    masked,
    payload: masked ? mask(payload, bytes.subarray(start - 4)) : payload
  }
}
