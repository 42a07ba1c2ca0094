/** What is measured, and what the numbers ought to be. */
import type { Settings } from "./control.ts"

/** What the load generator does; see load/load.c. */
export interface Load {
  readonly mode: "echo" | "burst" | "broadcast" | "rate" | "rooms" | "connect" | "slow" | "idle"
  readonly connections: number
  readonly window?: number
  readonly binary?: boolean
  readonly size?: number
  readonly fragment?: number
  readonly receiveBuffer?: number
  /** `"half"`: half of what `ws` answers in ping-pong with as many connections. */
  readonly rate?: number | "half"
}

/** What is known of a peer after one measurement. */
export interface Measurement {
  /** Messages that came back, and handshakes, per second. */
  readonly messages: number
  readonly handshakes: number
  /** The latencies, in nanoseconds, that half, 99 % and 99.9 % of the messages stayed below. */
  readonly latency: ReadonlyArray<number>
  /** How many cores the process under test, and the load, kept busy. */
  readonly cpu: number
  readonly loadCpu: number
  /** The share of the time for which something else had the core of the process under test, if anything tells. */
  readonly contention: number
  /** What the process under test gained, in bytes. */
  readonly rss: number
  readonly heap: number
  /** How often the process under test woke up, per second. */
  readonly wakeUps: number
}

/** A number that a measurement gives, and by which peers are compared. */
export interface Metric {
  readonly name?: string
  readonly unit: string
  readonly better: "more" | "less"
  readonly of: (measurement: Measurement) => number
  readonly target?: Target
}

/** What the two levels of ours should reach, given theirs, that of `ws`, and the ratio (more than 1 is better than `ws`). */
export interface Target {
  readonly text: string
  readonly isMet: (level: 0 | 1, value: number, ws: number, ratio: number) => boolean
}

export interface Workload {
  readonly id: string
  readonly title: string
  readonly group: "server" | "client" | "tls" | "rooms" | "growth"
  readonly settings?: Settings
  readonly load: Load
  readonly metrics: ReadonlyArray<Metric>
  /** Measure memory after collecting garbage, and after a first wave of connections. */
  readonly collect?: boolean
  /** Only these peers. */
  readonly peers?: ReadonlyArray<string>
}

const atLeast = (stream: number, batch: number): Target => ({
  text: stream === batch ? `${stream}` : `${stream} / ${batch}`,
  isMet: (level, _value, _ws, ratio) => ratio >= (level === 0 ? stream : batch)
})

const noMoreThanWsPlus = (amount: number, unit: string): Target => ({
  text: `ws + ${amount} ${unit}`,
  isMet: (_level, value, ws) => value <= ws + amount
})

const rate = (unit: string, target?: Target): Metric => ({
  unit,
  better: "more",
  of: (m) => m.messages,
  ...(target === undefined ? {} : { target })
})

const bandwidth = (size: number, target?: Target): Metric => ({
  ...rate("MB/s", target),
  of: (m) => m.messages * size / 1e6
})

const less = (name: string, unit: string, of: Metric["of"], target?: Target): Metric => ({
  name,
  unit,
  better: "less",
  of,
  ...(target === undefined ? {} : { target })
})

const cpuPerMessage = less("server CPU per message", "µs", (m) => m.cpu / m.messages * 1e6)
const cpuPerByte = (size: number) => less("server CPU per byte", "ns", (m) => m.cpu / m.messages / size * 1e9)

const KiB = 1024
const MiB = 1024 * KiB

const amount = (n: number, what: string): string => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`
const bytes = (n: number): string => n < MiB ? `${n / KiB} KiB` : `${n / MiB} MiB`

const pingpong = (connections: number): Load => ({ mode: "echo", connections })
const pipelined = (binary: boolean): Load => ({ mode: "echo", connections: 16, window: 256, binary })

const main: ReadonlyArray<Workload> = [
  ...[64, 1000].map((connections): Workload => ({
    id: `pingpong-${connections}`,
    title: `ping-pong 64 B, ${amount(connections, "connection")}`,
    group: "server",
    load: pingpong(connections),
    metrics: [rate("msg/s", atLeast(1.1, 1.2))]
  })),
  ...[false, true].map((binary): Workload => ({
    id: `pipelined-${binary ? "binary" : "text"}`,
    title: `pipelined 64 B ${binary ? "binary" : "text"}, 16 connections × window 256`,
    group: "server",
    load: pipelined(binary),
    metrics: [rate("msg/s", atLeast(15, 25))]
  })),
  {
    id: "binary-16k",
    title: "16 KiB binary, 4 connections × window 4",
    group: "server",
    load: { mode: "echo", connections: 4, window: 4, size: 16 * KiB, binary: true },
    metrics: [bandwidth(16 * KiB, atLeast(2.5, 2.5))]
  },
  {
    id: "binary-1m",
    title: "1 MiB binary, 2 connections",
    group: "server",
    load: { mode: "echo", connections: 2, size: MiB, binary: true },
    metrics: [bandwidth(MiB, atLeast(2, 2))]
  },
  ...([[4, 3], [1, 1.1]] as const).map(([window, ratio]): Workload => ({
    id: `broadcast-${window}`,
    title: `broadcast 64 B to 1,000, ${window} in flight`,
    group: "server",
    settings: { broadcast: true },
    load: { mode: "broadcast", connections: 1000, window },
    metrics: [rate("deliveries/s", atLeast(ratio, ratio))]
  })),
  {
    id: "connect",
    title: "connect and close, 64 at a time",
    group: "server",
    load: { mode: "connect", connections: 64 },
    metrics: [{ ...rate("handshakes/s", atLeast(1, 1)), of: (m) => m.handshakes }]
  },
  {
    id: "latency",
    title: "latency 64 B, 64 connections, half the load of `ws`",
    group: "server",
    load: { mode: "rate", connections: 64, rate: "half" },
    metrics: ["p50", "p99", "p99.9"].map((name, i) => less(name, "µs", (m) => m.latency[i]! / 1000))
  },
  {
    id: "idle",
    title: "idle, 5,000 connections",
    group: "server",
    load: { mode: "idle", connections: 5000 },
    collect: true,
    metrics: [
      less("memory per connection (RSS)", "KiB", (m) => m.rss / 5000 / KiB, noMoreThanWsPlus(2, "KiB")),
      less("memory per connection (JS heap and buffers)", "KiB", (m) => m.heap / 5000 / KiB),
      less("wake-ups per second", "1/s", (m) => m.wakeUps)
    ]
  },
  {
    id: "heartbeat",
    title: "idle, 5,000 connections, a heartbeat every second",
    group: "server",
    settings: { heartbeatMillis: 1000 },
    load: { mode: "idle", connections: 5000 },
    metrics: [less("CPU per connection and heartbeat", "µs", (m) => m.cpu / 5000 * 1e6)],
    // Raw sockets have no heartbeat, and the runtimes' own is not for every second.
    peers: ["effect-ws", "effect-ws-batch", "ws", "ws-bufferutil"]
  },
  {
    id: "slow-reader",
    title: "echo of 1 KiB to 4 slow readers (4 MB/s each) that send all they can",
    group: "server",
    load: { mode: "slow", connections: 4, size: KiB, rate: 4e6 },
    metrics: [less("memory gained", "MiB", (m) => Math.max(0, m.rss) / MiB), cpuPerMessage]
  }
]

const tls: ReadonlyArray<Workload> = [
  { id: "tls-pingpong-64", title: "ping-pong 64 B, 64 connections", load: pingpong(64) },
  { id: "tls-pipelined-text", title: "pipelined 64 B text, 16 connections × window 256", load: pipelined(false) },
  {
    id: "tls-binary-16k",
    title: "16 KiB binary, 4 connections × window 4",
    load: { mode: "echo" as const, connections: 4, window: 4, size: 16 * KiB, binary: true }
  }
].map(({ id, load, title }): Workload => ({
  id,
  title,
  group: "tls",
  load,
  metrics: [cpuPerMessage],
  peers: ["effect-ws", "effect-ws-batch", "ws", "ws-bufferutil", "effect", "net"]
}))

const members = 10_000
const roomsLoad = (deliveries: number): Load => ({
  mode: "rooms",
  connections: members,
  binary: true,
  rate: deliveries / 100
})

const rooms: ReadonlyArray<Workload> = [
  {
    id: "rooms-idle",
    title: "nearly idle",
    group: "rooms",
    settings: { rooms: 100 },
    load: roomsLoad(100),
    collect: true,
    metrics: [
      less("memory per connection (RSS)", "KiB", (m) => m.rss / members / KiB),
      less("memory per connection (JS heap and buffers)", "KiB", (m) => m.heap / members / KiB)
    ],
    peers: ["effect-ws", "ws"]
  },
  ...[1000, 10_000, 50_000, 100_000, 150_000].map((deliveries): Workload => ({
    id: `rooms-${deliveries / 1000}k`,
    title: `${deliveries.toLocaleString("en")} deliveries/s`,
    group: "rooms",
    settings: { rooms: 100 },
    load: roomsLoad(deliveries),
    metrics: [
      ...["p50", "p99", "p99.9"].map((name, i) => less(`delay, ${name}`, "ms", (m) => m.latency[i]! / 1e6)),
      less("CPU per delivery", "µs", (m) => m.cpu / m.messages * 1e6)
    ],
    peers: ["effect-ws", "ws"]
  }))
]

const client: ReadonlyArray<Workload> = [
  {
    id: "client-pingpong",
    title: "client: ping-pong 64 B, 64 connections",
    group: "client",
    load: pingpong(64),
    metrics: [rate("msg/s")]
  },
  {
    id: "client-pipelined",
    title: "client: pipelined 64 B text, 16 connections × window 256",
    group: "client",
    load: pipelined(false),
    metrics: [rate("msg/s")]
  },
  {
    id: "client-16k",
    title: "client: 16 KiB binary, 4 connections × window 4",
    group: "client",
    load: { mode: "echo", connections: 4, window: 4, size: 16 * KiB, binary: true },
    metrics: [bandwidth(16 * KiB)]
  }
]

const compared = ["effect-ws", "effect-ws-batch", "ws", "net"]

const growth: ReadonlyArray<Workload> = [
  ...[1, 10, 100, 1000, 10_000].map((connections): Workload => ({
    id: `grow-connections-${connections}`,
    title: `ping-pong 64 B, ${amount(connections, "connection")}`,
    group: "growth",
    load: pingpong(connections),
    metrics: [cpuPerMessage],
    peers: compared
  })),
  ...[1, 10, 100, 1000, 10_000].map((window): Workload => ({
    id: `grow-queue-${window}`,
    title: `256 B, ${amount(window, "message")} queued for one connection`,
    group: "growth",
    settings: { maxQueuedMessages: 16_384, maxQueuedBytes: 16 * MiB },
    load: { mode: "burst", connections: 512, window, size: 256, receiveBuffer: 4096 },
    metrics: [cpuPerMessage],
    peers: compared
  })),
  ...[false, true].flatMap((fragmented) =>
    [KiB, 16 * KiB, 256 * KiB, MiB, 16 * MiB].map((size): Workload => ({
      id: `grow-${fragmented ? "fragments" : "bytes"}-${bytes(size).replace(/ (.).*/, "$1").toLowerCase()}`,
      title: `binary, ${bytes(size)} ${fragmented ? "in fragments" : "whole"}`,
      group: "growth",
      settings: { maxMessageBytes: 16 * MiB },
      load: {
        mode: "echo",
        connections: 1,
        window: Math.ceil(256 * KiB / size),
        size,
        binary: true,
        // At most 1,024 of them.
        ...(fragmented ? { fragment: Math.max(64, size / 1024) } : {})
      },
      metrics: [cpuPerByte(size)],
      peers: compared
    }))
  )
]

export const workloads: ReadonlyArray<Workload> = [...main, ...client, ...tls, ...rooms, ...growth]
