/**
 * Compressed messages: what zlib takes for one, what an echo of them reaches beside `ws`, and what an idle connection costs.
 *
 *     npx node --expose-gc bench/compression.ts
 *     npx node --expose-gc bench/compression.ts idling
 *
 * An echo server has one core, where there is `taskset`: what the threads of `ws` bring on more of them, the strategies tell.
 */
import { Compression } from "@effect-ws/core"
import { Opcode } from "@effect-ws/core/protocol/Frame"
import { NodeCompression, NodeUtf8 } from "@effect-ws/node"
import { connect, type Socket } from "node:net"
import { setTimeout } from "node:timers/promises"
import { promisify } from "node:util"
import * as Zlib from "node:zlib"
import type { Settings, Usage } from "./control.ts"
import { cores, describe } from "./machine.ts"
import { commandOf, peers, versions } from "./peers.ts"
import { Process } from "./processes.ts"

const KiB = 1024
const rounds = 3
const seconds = 3

const compared = peers.filter(({ id }) => id === "effect-ws" || id === "ws")
const modes = ["none", "no context takeover", "context takeover"] as const

const { Z_SYNC_FLUSH } = Zlib.constants
const print = (...cells: ReadonlyArray<string | number>): void =>
  void process.stdout.write(`| ${cells.map(String).join(" | ")} |\n`)
const heading = (title: string, ...cells: ReadonlyArray<string>): void => {
  process.stdout.write(`\n${title}\n\n`)
  print(...cells)
  print(...cells.map(() => "---"))
}
const median = (values: ReadonlyArray<number>): number => values.toSorted((a, b) => a - b)[values.length >> 1]!

// Text as programs send it: names that come again, values that do not.
const messages = (size: number, count: number): Array<Buffer> => {
  const words = "order status price quantity active pending user product delivered invoice amount currency".split(" ")
  let state = 1
  const random = (below: number) => (state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0) % below
  const record = () =>
    JSON.stringify({
      id: random(1e9),
      [words[random(12)]!]: words[random(12)],
      price: random(1e5) / 100,
      tags: [words[random(12)]]
    })
  return Array.from({ length: count }, () => {
    let text = ""
    while (text.length < size) text += record()
    return Buffer.from(text.slice(0, size))
  })
}

// What compressing costs: the main thread, or all of them.

const deflate = (bytes: Uint8Array): Uint8Array =>
  NodeCompression.compression.deflate(bytes, { level: 6, windowBits: 15, dictionary: new Uint8Array(0) })
const deflateRaw = promisify<Buffer, Zlib.ZlibOptions, Buffer>(Zlib.deflateRaw)
const options = { finishFlush: Z_SYNC_FLUSH }

// `cap` messages at a time, as long as there are messages.
const asynchronously = (cap: number) => async (inputs: ReadonlyArray<Buffer>): Promise<void> => {
  let next = 0
  const worker = async () => {
    while (next < inputs.length) await deflateRaw(inputs[next++]!, options)
  }
  await Promise.all(Array.from({ length: cap }, worker))
}

const strategies: Record<string, (inputs: ReadonlyArray<Buffer>) => Promise<void> | void> = {
  "synchronous, state to the measure of the message (effect-ws)": (inputs) => inputs.forEach(deflate),
  "synchronous, state of the default size": (inputs) => inputs.forEach((bytes) => Zlib.deflateRawSync(bytes, options)),
  "asynchronous, one at a time": asynchronously(1),
  "asynchronous, 10 at a time (ws)": asynchronously(10),
  "asynchronous, all at once": (inputs) => asynchronously(inputs.length)(inputs)
}

const compressing = async (): Promise<void> => {
  for (const size of [256, KiB, 16 * KiB, 128 * KiB]) {
    const inputs = messages(size, Math.min(2000, 16 * 1024 * KiB / size))
    const plain = size * inputs.length
    const deflated = inputs.reduce((bytes, input) => bytes + deflate(input).length, 0)
    heading(
      `Compressing ${inputs.length} messages of ${size} bytes to ${(deflated / plain * 100).toFixed(0)} %`,
      "how",
      "µs per message",
      "µs of CPU",
      "memory gained (MiB)"
    )
    for (const [name, run] of Object.entries(strategies)) {
      await run(inputs)
      globalThis.gc?.()
      const before = process.memoryUsage().rss
      const times: Array<number> = []
      const cpus: Array<number> = []
      for (let round = 0; round < rounds; round++) {
        const cpu = process.cpuUsage()
        const start = performance.now()
        await run(inputs)
        times.push((performance.now() - start) * 1000 / inputs.length)
        const used = process.cpuUsage(cpu)
        cpus.push((used.user + used.system) / inputs.length)
      }
      const gained = Math.max(0, process.memoryUsage().rss - before) / KiB / KiB
      print(name, median(times).toFixed(1), median(cpus).toFixed(1), gained.toFixed(0))
    }
  }
}

const takingOver = (): void => {
  const inputs = messages(KiB, 4000)
  heading(
    "Context takeover: 4,000 messages of 1 KiB, one after the other",
    "window",
    "compressed to",
    "µs to compress",
    "µs to inflate"
  )
  for (const windowBits of [undefined, 9, 11, 13, 15] as const) {
    const direction = { contextTakeover: windowBits !== undefined, windowBits: windowBits ?? 15 }
    const results = Array.from({ length: rounds }, () => {
      const settings = Compression.settle(NodeCompression.compression, true)!
      const deflater = new Compression.MessageDeflater(settings, direction, NodeUtf8.codec)
      const inflater = new Compression.MessageInflater(settings.compression, direction, KiB)
      const start = process.cpuUsage()
      const deflated = inputs.map((bytes) => deflater.deflate(Opcode.binary, bytes, bytes.length, true)!)
      const between = process.cpuUsage()
      for (const bytes of deflated) inflater.inflate(bytes)
      const end = process.cpuUsage()
      const since = (from: NodeJS.CpuUsage, to: NodeJS.CpuUsage) =>
        (to.user + to.system - from.user - from.system) / inputs.length
      const bytes = deflated.reduce((sum, { length }) => sum + length, 0)
      return { size: bytes / KiB / inputs.length, deflate: since(start, between), inflate: since(between, end) }
    })
    const of = (key: "size" | "deflate" | "inflate") => median(results.map((each) => each[key]))
    print(
      windowBits === undefined ? "none" : `${2 ** windowBits} bytes`,
      `${(of("size") * 100).toFixed(0)} %`,
      of("deflate").toFixed(1),
      of("inflate").toFixed(1)
    )
  }
}

// Servers, and a client that sends what it has compressed before and counts the frames that come back.

const offers: Record<typeof modes[number], string> = {
  "none": "",
  "no context takeover": "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
  "context takeover": "permessage-deflate; client_max_window_bits"
}

const open = (port: number, mode: typeof modes[number]): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1")
    socket.setNoDelay(true)
    socket.once("error", reject)
    const extensions = mode === "none" ? "" : `Sec-WebSocket-Extensions: ${offers[mode]}\r\n`
    socket.write(
      "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
        `Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n${extensions}\r\n`
    )
    socket.once("data", (head) => {
      const agreed = /permessage-deflate.*/i.exec(head.toString("latin1"))?.[0] ?? ""
      const isTakeover = mode === "context takeover" && !agreed.includes("no_context_takeover")
      if (mode === "none" ? agreed !== "" : agreed === "" || (mode === "context takeover") !== isTakeover) {
        return reject(new Error(`not agreed: ${agreed}`))
      }
      resolve(socket)
    })
  })

const frameOf = (payload: Uint8Array, isCompressed: boolean): Buffer => {
  const { length } = payload
  const head = length < 126 ? [0x80 | length] : [0x80 | 126, length >>> 8, length & 0xff]
  // A mask of zeros leaves the payload as it is.
  return Buffer.concat([Uint8Array.of(isCompressed ? 0xc1 : 0x81, ...head, 0, 0, 0, 0), payload])
}

// Counts frames by their headers; none is longer than 64 KiB.
const counter = (onFrame: () => void) => {
  let rest: Buffer = Buffer.alloc(0)
  let skip = 0
  return (chunk: Buffer): void => {
    let bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    for (;;) {
      const skipped = Math.min(skip, bytes.length)
      bytes = bytes.subarray(skipped)
      skip -= skipped
      const isLong = bytes.length >= 2 && bytes[1] === 126
      if (skip > 0 || bytes.length < (isLong ? 4 : 2)) break
      skip = isLong ? 4 + bytes.readUInt16BE(2) : 2 + bytes[1]!
      onFrame()
    }
    rest = bytes
  }
}

const core = cores()?.tested

const withServer = async <A>(
  id: string,
  settings: Settings,
  use: (port: number, server: Process) => Promise<A>
): Promise<A> => {
  const peer = compared.find((each) => each.id === id)!
  const server = new Process(commandOf(peer, peer.server!, settings), core)
  try {
    const { port } = await server.next("port")
    return await use(port as number, server)
  } finally {
    await server.stop()
  }
}

const settingsOf = (mode: typeof modes[number]): Settings => mode === "none" ? {} : { deflate: mode }

const echo = (id: string, mode: typeof modes[number], size: number): Promise<{ rate: number; cpu: number }> =>
  withServer(id, settingsOf(mode), async (port, server) => {
    const window = 16
    const frames = messages(size, 256).map((bytes) =>
      mode === "none" ? frameOf(bytes, false) : frameOf(deflate(bytes), true)
    )
    let answered = 0
    const sockets = await Promise.all(Array.from({ length: 8 }, () => open(port, mode)))
    for (const socket of sockets) {
      let next = 0
      socket.on(
        "data",
        counter(() => {
          answered++
          socket.write(frames[next++ % frames.length]!)
        })
      )
      for (let i = 0; i < window; i++) socket.write(frames[next++ % frames.length]!)
    }
    await setTimeout(1000)
    const before = await server.ask("usage", "rss") as unknown as Usage
    const start = answered
    await setTimeout(seconds * 1000)
    const after = await server.ask("usage", "rss") as unknown as Usage
    const count = answered - start
    for (const socket of sockets) socket.destroy()
    return { rate: count / (after.time - before.time), cpu: (after.cpu - before.cpu) * 1e6 / count }
  })

const echoing = async (): Promise<void> => {
  for (const size of [KiB, 16 * KiB]) {
    heading(
      `Echo of ${size} bytes of text, 8 connections, 16 messages in flight on each`,
      "",
      ...compared.flatMap(({ id }) => [`${id}: messages per second`, "µs of CPU"]),
      "ratio"
    )
    for (const mode of modes) {
      const results = compared.map((): Array<{ rate: number; cpu: number }> => [])
      for (let round = 0; round < rounds; round++) {
        for (const [i, { id }] of compared.entries()) results[i]!.push(await echo(id, mode, size))
      }
      const rates = results.map((each) => median(each.map(({ rate }) => rate)))
      print(
        mode,
        ...results.flatMap((each, i) => [Math.round(rates[i]!), median(each.map(({ cpu }) => cpu)).toFixed(1)]),
        (rates[0]! / rates[1]!).toFixed(2)
      )
    }
  }
}

// What a thousand connections keep: after the handshake, and after each has sent and got ten messages.

const idle = (id: string, mode: typeof modes[number], exchanged: number): Promise<Usage> =>
  withServer(id, settingsOf(mode), async (port, server) => {
    const count = 1000
    const frames = messages(4 * KiB, 10).map((bytes) =>
      mode === "none" ? frameOf(bytes, false) : frameOf(deflate(bytes), true)
    )
    const wave = async (connections: number) => {
      const sockets = await Promise.all(Array.from({ length: connections }, () => open(port, mode)))
      for (const socket of exchanged === 0 ? [] : sockets) {
        let answered = 0
        await new Promise<void>((resolve) => {
          socket.on("data", counter(() => ++answered === exchanged && resolve()))
          for (const frame of frames.slice(0, exchanged)) socket.write(frame)
        })
      }
      return sockets
    }
    // What only the first connections cost, and room for garbage, is not to be counted.
    for (let i = 0; i < 5; i++) {
      for (const socket of await wave(100)) socket.destroy()
      await setTimeout(200)
    }
    const before = await server.ask("collect", "rss") as unknown as Usage
    const sockets = await wave(count)
    const after = await server.ask("collect", "rss") as unknown as Usage
    for (const socket of sockets) socket.destroy()
    const each = (of: (usage: Usage) => number) => (of(after) - of(before)) / count / KiB
    return { ...after, rss: each(({ rss }) => rss), heap: each(({ heap }) => heap) }
  })

const idling = async (): Promise<void> => {
  heading(
    "KiB of memory for each of 1,000 idle connections: what is alive on the heap and outside, and what the process has (RSS)",
    "",
    "after",
    ...compared.flatMap(({ id }) => [`${id}: alive`, "RSS"]),
    "ratio of alive",
    "of RSS"
  )
  for (const mode of modes) {
    for (const exchanged of [0, 10]) {
      const results = compared.map((): Array<Usage> => [])
      for (let round = 0; round < rounds; round++) {
        for (const [i, { id }] of compared.entries()) results[i]!.push(await idle(id, mode, exchanged))
      }
      const [alive, rss] = (["heap", "rss"] as const).map((key) =>
        results.map((each) => median(each.map((u) => u[key])))
      )
      print(
        mode,
        exchanged === 0 ? "the handshake" : `${exchanged} messages of 4 KiB`,
        ...compared.flatMap((_, i) => [alive![i]!.toFixed(1), rss![i]!.toFixed(1)]),
        ...[alive!, rss!].map(([ours, theirs]) => (ours! / theirs!).toFixed(2))
      )
    }
  }
}

const parts: Record<string, () => Promise<void> | void> = { compressing, takingOver, echoing, idling }
const wanted = process.argv.slice(2)

process.stdout.write(`${describe()}\n${versions(compared)}\n`)
for (const [name, part] of Object.entries(parts)) {
  if (wanted.length === 0 || wanted.includes(name)) await part()
}
