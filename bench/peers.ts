/** What is compared. */
import { readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { join } from "node:path"
import type { Settings } from "./control.ts"
import { isInstalled, versionOf } from "./machine.ts"
import type { Command } from "./processes.ts"

export interface Peer {
  readonly id: string
  readonly label: string
  /** The programs that it is, as far as it has both roles. */
  readonly server?: string
  readonly client?: string
  readonly runtime?: "bun" | "deno"
  readonly level?: Settings["level"]
  readonly env?: Readonly<Record<string, string>>
  /** Whether it knows frames, or gives back the bytes as they came. */
  readonly isRaw?: boolean
  /** How the ids of the workloads begin that it is for; all are, if absent. */
  readonly only?: string
}

/** The peer that all others are related to. */
export const reference = "ws"

/** Ours. */
export const ours = ["effect-ws", "effect-ws-batch"] as const

const portableWs = { WS_NO_BUFFER_UTIL: "1" }

export const peers: ReadonlyArray<Peer> = [
  {
    id: "effect-ws",
    label: "effect-ws, stream (a)",
    server: "servers/effect-ws.ts",
    client: "clients/effect-ws.ts",
    level: "stream"
  },
  {
    id: "effect-ws-batch",
    label: "effect-ws, batches (b)",
    server: "servers/effect-ws.ts",
    client: "clients/effect-ws.ts",
    level: "batch"
  },
  { id: "ws", label: "ws", server: "servers/ws.ts", client: "clients/ws.ts", env: portableWs },
  { id: "ws-bufferutil", label: "ws + bufferutil", server: "servers/ws.ts", client: "clients/ws.ts" },
  { id: "effect", label: "Effect's socket", server: "servers/effect.ts", client: "clients/effect.ts", env: portableWs },
  { id: "node", label: "Node's WebSocket", client: "clients/node.ts" },
  { id: "net", label: "net, no parsing", server: "servers/net.ts", client: "clients/net.ts", isRaw: true },
  { id: "net-onread", label: "net with onread", server: "servers/net-onread.ts", isRaw: true },
  { id: "fiber", label: "net with onread and a fiber", server: "servers/fiber.ts", isRaw: true, only: "pingpong" },
  { id: "bun", label: "Bun", runtime: "bun", server: "servers/bun.ts", client: "clients/node.ts" },
  { id: "deno", label: "Deno", runtime: "deno", server: "servers/deno.ts", client: "clients/node.ts" }
]

/** The peers whose runtime is there. */
export const available = (): ReadonlyArray<Peer> =>
  peers.filter(({ runtime }) => runtime === undefined || isInstalled(runtime))

const runtimes = {
  node: [process.execPath, "--expose-gc"],
  bun: ["bun", "run"],
  deno: ["deno", "run", "--allow-all", "--no-check", "--sloppy-imports"]
}

/** The command that starts a program of a peer. */
export const commandOf = (peer: Peer, program: string, settings: Settings): Command => ({
  name: program,
  words: [
    ...runtimes[peer.runtime ?? "node"],
    join(import.meta.dirname, program),
    JSON.stringify({ level: peer.level, ...settings })
  ],
  ...(peer.env === undefined ? {} : { env: peer.env })
})

const packageVersion = (name: string): string => {
  const file = createRequire(import.meta.url).resolve(`${name}/package.json`)
  return (JSON.parse(readFileSync(file, "utf8")) as { version: string }).version
}

/** The versions of all that took part. */
export const versions = (peers: ReadonlyArray<Peer>): string =>
  [
    `Node ${process.versions.node}`,
    ...["@effect-ws/core", "effect", "ws", "bufferutil"].map((name) => `${name} ${packageVersion(name)}`),
    ...new Set(peers.flatMap(({ runtime }) => runtime === undefined ? [] : [`${runtime} ${versionOf(runtime)}`]))
  ].join(", ")
