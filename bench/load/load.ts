/**
 * The load generator on `node:net`, for machines without a C compiler or epoll. Modes, options and output are those of load.c;
 * like that, it counts bytes and never parses.
 */
import { type AddressInfo, connect, createServer, type Socket } from "node:net"
import { performance } from "node:perf_hooks"
import { createInterface } from "node:readline"
import { connect as connectTls } from "node:tls"
import { switchingProtocols } from "../servers/handshake.ts"

const options = Object.fromEntries(process.argv.slice(2).map((word) => word.split("="))) as Record<string, string>
const option = (name: string, fallback = 0): number => Number(options[name] ?? fallback)
const mode = options["mode"] ?? "echo"
const total = option("connections", 1)
const window = option("window", 1)
const size = option("size", 64)
const reply = option("reply", 66)
const isServer = option("listen") === 1
const isTls = option("tls") === 1

const tell = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`)
const fail = (message: string): void => {
  process.stderr.write(`load: ${message}\n`)
  process.exit(1)
}
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

const mask = [0x12, 0x34, 0x56, 0x78]
const text = "The quick brown fox jumps over the lazy dog; "

const frame = (opcode: number, fin: boolean, length: number): Buffer => {
  const extended = length < 126 ? 0 : length < 0x1_0000 ? 2 : 8
  const head = Buffer.alloc(2 + extended)
  head[0] = (fin ? 0x80 : 0) | opcode
  head[1] = (isServer ? 0 : 0x80) | (extended === 0 ? length : extended === 2 ? 126 : 127)
  if (extended > 0) head.writeUIntBE(length, extended === 8 ? 4 : 2, extended === 8 ? 6 : 2)
  const payload = Buffer.alloc(length, text)
  if (isServer) return Buffer.concat([head, payload])
  for (let i = 0; i < length; i++) payload[i]! ^= mask[i & 3]!
  return Buffer.concat([head, Buffer.from(mask), payload])
}

const message = (() => {
  const fragment = option("fragment", size)
  const frames: Array<Buffer> = []
  for (let done = 0; done < size; done += fragment) {
    const length = Math.min(fragment, size - done)
    frames.push(frame(done === 0 ? option("opcode", 1) : 0, done + length === size, length))
  }
  return Buffer.concat(frames)
})()

const cache = new Map<number, Buffer>()
const messages = (count: number): Buffer => {
  let bytes = cache.get(count)
  if (bytes === undefined) {
    bytes = Buffer.alloc(count * message.length, message)
    if (count <= 1024) cache.set(count, bytes)
  }
  return bytes
}

interface Connection {
  readonly socket: Socket
  received: number
  replies: number
  readonly due: Array<number>
  rest: Buffer
}

const connections: Array<Connection> = []
const latencies: Array<number> = []
let received = 0
let handshakes = 0
let published = 0
let isMeasuring = false
let onReplies = (): void => {}

const count = (connection: Connection, length: number): number => {
  const before = connection.replies
  connection.received += length
  connection.replies = Math.floor(connection.received / reply)
  return connection.replies - before
}

const publish = (): void => {
  const due = Math.floor(received / reply / total) + window - published
  if (due <= 0) return
  published += due
  connections[0]!.socket.write(messages(due))
}

const answerPings = (socket: Socket, chunk: Buffer): void => {
  for (let at = 0; chunk[at] === 0x89; at += 2 + chunk[at + 1]!) {
    const payload = chunk.subarray(at + 2, at + 2 + chunk[at + 1]!)
    socket.write(Buffer.concat([Buffer.from([0x8a, 0x80 | payload.length, 0, 0, 0, 0]), payload]))
  }
}

const receivers: Record<string, (connection: Connection, chunk: Buffer) => void> = {
  echo: (connection, { length }) => {
    const replies = count(connection, length)
    if (replies > 0) connection.socket.write(messages(replies))
  },
  burst: (connection, { length }) => {
    count(connection, length)
    onReplies()
  },
  broadcast: publish,
  rate: (connection, { length }) => {
    const now = performance.now()
    for (const due of connection.due.splice(0, count(connection, length))) {
      if (isMeasuring) latencies.push((now - due) * 1e6)
    }
  },
  // A message begins with the time at which it was due, in milliseconds.
  rooms: (connection, chunk) => {
    const now = performance.now()
    const bytes = Buffer.concat([connection.rest, chunk])
    const whole = Math.floor(bytes.length / reply)
    for (let i = 0; i < whole; i++) {
      if (isMeasuring) latencies.push((now - bytes.readDoubleLE(i * reply + 2)) * 1e6)
    }
    connection.rest = bytes.subarray(whole * reply)
  },
  connect: (connection) => connection.socket.end(),
  slow: () => {},
  idle: (connection, chunk) => answerPings(connection.socket, chunk)
}

const opened = (socket: Socket, rest: Buffer): void => {
  const connection: Connection = { socket, received: 0, replies: 0, due: [], rest: Buffer.alloc(0) }
  const receive = receivers[mode]!
  const onData = (chunk: Buffer): void => {
    received += chunk.length
    receive(connection, chunk)
  }
  handshakes++
  connections.push(connection)
  if (mode === "connect") socket.write(Buffer.from([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]))
  if (rest.length > 0) onData(rest)
  socket.on("data", onData)
}

const closed = (): void => {
  if (mode === "connect") open()
  else fail("the peer dropped a connection")
}

// Calls back with what came behind the head of the handshake.
const shake = (socket: Socket, done: (head: Buffer, rest: Buffer) => void): void => {
  let head: Buffer = Buffer.alloc(0)
  socket.setNoDelay(true)
  socket.on("error", () => {})
  socket.on("close", closed)
  const onData = (chunk: Buffer): void => {
    head = Buffer.concat([head, chunk])
    const end = head.indexOf("\r\n\r\n")
    if (end < 0) return
    socket.off("data", onData)
    done(head, head.subarray(end + 4))
  }
  socket.on("data", onData)
}

const open = (): Promise<void> =>
  new Promise((resolve) => {
    const port = option("port")
    const socket = isTls
      ? connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false })
      : connect(port, "127.0.0.1")
    socket.write(
      `GET / HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    shake(socket, (head, rest) => {
      if (!head.toString("latin1").startsWith("HTTP/1.1 101")) fail("not upgraded")
      opened(socket, rest)
      resolve()
    })
  })

const accept = (): Promise<void> =>
  new Promise((resolve) => {
    const server = createServer((socket) =>
      shake(socket, (head, rest) => {
        socket.write(switchingProtocols(head))
        opened(socket, rest)
        if (connections.length === total) resolve()
      })
    )
    server.listen(0, "127.0.0.1", () => tell({ port: (server.address() as AddressInfo).port }))
  })

const openAll = async (): Promise<void> => {
  if (isServer) return accept()
  for (let i = 0; i < total; i += 64) await Promise.all(Array.from({ length: Math.min(64, total - i) }, open))
}

const atRate = (send: (connection: Connection, due: number) => void) => (): void => {
  const interval = 1000 / option("rate")
  let next = performance.now()
  let turn = 0
  const step = (): void => {
    for (const now = performance.now(); now >= next; next += interval) {
      send(connections[turn++ % total]!, next)
    }
    setImmediate(step)
  }
  step()
}

const sendDue = (connection: Connection, due: number): void => {
  connection.due.push(due)
  connection.socket.write(message)
}

const sendStamped = ({ socket }: Connection, due: number): void => {
  const frame = Buffer.alloc(6 + size)
  frame[0] = 0x82
  frame[1] = 0x80 | size
  frame.writeDoubleLE(due, 6)
  socket.write(frame)
}

const burst = async (turn = 0): Promise<void> => {
  const connection = connections[turn % total]!
  const last = connection.replies + window
  connection.socket.pause()
  connection.socket.write(messages(window))
  await sleep(window / 100)
  connection.socket.resume()
  await new Promise<void>((resolve) => {
    onReplies = () => connection.replies >= last && resolve()
    onReplies()
  })
  return burst(turn + 1)
}

// Each chunk is followed by a pause that is as long as it should have taken.
const readSlowly = ({ socket }: Connection): void => {
  const batch = messages(1024)
  const write = (): void => {
    while (socket.write(batch)) {}
  }
  let next = performance.now()
  socket.on("data", ({ length }) => {
    socket.pause()
    const now = performance.now()
    next = Math.max(next, now) + length / option("rate") * 1000
    setTimeout(() => socket.resume(), next - now)
  })
  socket.on("drain", write)
  write()
}

const begin: Record<string, () => void> = {
  echo: () => connections.forEach(({ socket }) => socket.write(messages(window))),
  burst: () => void burst(),
  broadcast: publish,
  rate: atRate(sendDue),
  rooms: atRate(sendStamped),
  slow: () => connections.forEach(readSlowly)
}

const percentile = (share: number): number => latencies[Math.ceil(share * latencies.length) - 1] ?? 0

await openAll()
tell({ event: "ready" })
begin[mode]?.()
await sleep(option("warmup") * 1000)
tell({ event: "start" })
isMeasuring = true
const start = performance.now()
const cpuBefore = process.cpuUsage()
const before = { received, handshakes }
await sleep(option("seconds") * 1000)
const seconds = (performance.now() - start) / 1000
const { system, user } = process.cpuUsage(cpuBefore)
latencies.sort((a, b) => a - b)
tell({
  event: "end",
  seconds,
  messages: (received - before.received) / reply,
  handshakes: handshakes - before.handshakes,
  cpu: (user + system) / 1e6 / seconds,
  latency: [0.5, 0.99, 0.999].map(percentile)
})
createInterface({ input: process.stdin }).on("close", () => process.exit(0))
