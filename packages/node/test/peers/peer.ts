/**
 * A process that speaks WebSocket over a plain socket, in either role, and reads only when it is told to.
 */
import { Effect } from "effect"
import { createHash } from "node:crypto"
import * as Net from "node:net"
import { isPayload, type Load, payload } from "./load.ts"
import { answer } from "./remote.ts"

const maskKey = [0x12, 0x34, 0x56, 0x78] as const
const chunkBytes = 64 * 1024

let role: "client" | "server"
let socket: Net.Socket
let flooded = { bytes: 0, isDone: false }

// Waits for the head of the other side's request or response, and reads nothing more.
const adopt = (connecting: Net.Socket, onHead: (head: string) => void): void => {
  let head = ""
  connecting.setNoDelay(true)
  connecting.on("error", () => {})
  connecting.on("data", function onData(chunk: Buffer) {
    head += chunk.toString("latin1")
    if (!head.endsWith("\r\n\r\n")) return
    connecting.off("data", onData)
    connecting.pause()
    socket = connecting
    onHead(head)
  })
}

const accept = (head: string): void => {
  const key = /^sec-websocket-key: *(.*)\r$/im.exec(head)?.[1]
  const digest = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64")
  socket.write(
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
      `Sec-WebSocket-Accept: ${digest}\r\n\r\n`
  )
}

const frame = (bytes: Uint8Array): Buffer => {
  const { length } = bytes
  const header = length < 126 ? [length] : [126, length >>> 8, length & 0xff]
  if (role === "server") return Buffer.concat([Buffer.from([0x82, ...header]), bytes])
  header[0]! |= 0x80
  for (let i = 0; i < length; i++) bytes[i]! ^= maskKey[i & 3]!
  return Buffer.concat([Buffer.from([0x82, ...header, ...maskKey]), bytes])
}

// Writes as fast as the socket takes it, some 64 KiB at a time.
const flood = ({ messages, size }: Load): void => {
  flooded = { bytes: 0, isDone: false }
  const progress = flooded
  // Messages of one byte repeat themselves every 256.
  const perChunk = Math.max(1, Math.ceil(chunkBytes / size / 256)) * (size < 256 ? 256 : 4)
  const repeats = size < 4
  let chunk: Buffer | undefined
  let next = 0
  const proceed = (): void => {
    while (next < messages) {
      const count = Math.min(perChunk, messages - next)
      if (chunk === undefined || !repeats || count < perChunk) {
        chunk = Buffer.concat(Array.from({ length: count }, (_, i) => frame(payload(next + i, size))))
      }
      next += count
      const hasMore = next < messages
      const goOn = socket.write(chunk, () => {
        progress.bytes += count * size
        progress.isDone = !hasMore
      })
      if (!goOn) return void socket.once("drain", proceed)
    }
  }
  proceed()
}

// Reads until a load has arrived, or something that is not its next message.
const read = ({ messages, size }: Load, onDone: (result: { messages: number; inOrder: boolean }) => void): void => {
  const maskLength = role === "server" ? 4 : 0
  const headLength = 2 + (size < 126 ? 0 : 2) + maskLength
  let rest: Uint8Array = new Uint8Array(0)
  let received = 0

  const isNext = (frame: Uint8Array): boolean => {
    const length = size < 126 ? frame[1]! & 0x7f : (frame[2]! << 8) | frame[3]!
    const bytes = frame.subarray(headLength)
    if (maskLength > 0) { for (let i = 0; i < size; i++) bytes[i]! ^= frame[headLength - 4 + (i & 3)]! }
    return frame[0] === 0x82 && length === size && isPayload(bytes, received, size)
  }

  socket.on("data", function onData(chunk: Buffer) {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    const frameLength = headLength + size
    let inOrder = true
    let at = 0
    for (; inOrder && bytes.length - at >= frameLength; at += frameLength) {
      inOrder = isNext(bytes.subarray(at, at + frameLength))
      received++
    }
    rest = bytes.subarray(at)
    if (inOrder && received < messages) return
    socket.off("data", onData)
    socket.pause()
    onDone({ messages: received, inOrder: inOrder && rest.length === 0 })
  })
  socket.resume()
}

const commands = {
  listen: () =>
    Effect.callback<number>((resume) => {
      role = "server"
      const server = Net.createServer((connecting) => adopt(connecting, accept))
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed((server.address() as Net.AddressInfo).port)))
    }),
  connect: (port: number) =>
    Effect.callback<void>((resume) => {
      role = "client"
      const connecting = Net.connect(port, "127.0.0.1")
      adopt(connecting, () => resume(Effect.void))
      connecting.write(
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
          "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
      )
    }),
  /** Begins to send a load. */
  flood: (load: Load) => Effect.sync(() => flood(load)),
  /** How much of it the kernel has taken. */
  flooded: () => Effect.sync(() => flooded),
  /** Reads a load to its end. */
  read: (load: Load) =>
    Effect.callback<{ messages: number; inOrder: boolean }>((resume) =>
      read(load, (result) => resume(Effect.succeed(result)))
    ),
  disconnect: () => Effect.sync(() => void socket.destroy())
}

export type Peer = typeof commands

answer(commands)
