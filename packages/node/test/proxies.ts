import { NodeWebSocketClient } from "@effect-ws/node"
import { Effect, Layer, Schedule } from "effect"
import { spawn, spawnSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import * as Http from "node:http"
import * as Https from "node:https"
import * as Net from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { Duplex } from "node:stream"
import type { Certificate } from "./certificates.ts"
import { connectRaw, listenRaw } from "./rawPeer.ts"

/** Provides a client whose options are these. */
export const withClient = (options: NodeWebSocketClient.Options) =>
  Effect.provide(Layer.orDie(NodeWebSocketClient.layerWith(options)))

/** Listens until the end of the scope, and drops all sockets then. */
const listen = Effect.fnUntraced(function*(server: Net.Server | Http.Server) {
  const sockets = new Set<Duplex>()
  const keep = (socket: Duplex) => {
    sockets.add(socket)
    socket.on("error", () => socket.destroy())
    socket.once("close", () => sockets.delete(socket))
  }
  server.on("connection", keep)
  const drop = Effect.sync(() => {
    for (const socket of sockets) socket.destroy()
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () => Effect.andThen(drop, Effect.callback<void>((resume) => void server.close(() => resume(Effect.void))))
  )
  const relay = (port: number, host: string, socket: Duplex, onConnected: (upstream: Net.Socket) => void) => {
    const upstream = Net.connect(port, host, () => {
      onConnected(upstream)
      upstream.pipe(socket).pipe(upstream)
    })
    keep(upstream)
    keep(socket)
    upstream.once("close", () => socket.destroy())
    socket.once("close", () => upstream.destroy())
  }
  return { port: (server.address() as Net.AddressInfo).port, relay, drop }
})

/** A proxy that connects to whatever it is asked for, and keeps the requests; `drop` ends all that it carries. */
export const startHttpProxy = Effect.fnUntraced(function*(tls?: Certificate) {
  const requests: Array<{ readonly target: string; readonly headers: Http.IncomingHttpHeaders }> = []
  const server = tls === undefined ? Http.createServer() : Https.createServer(tls)
  const { drop, port, relay } = yield* listen(server)
  server.on("connect", (request: Http.IncomingMessage, socket: Duplex, head: Buffer) => {
    const target = request.url ?? ""
    requests.push({ target, headers: request.headers })
    const { hostname, port } = new URL(`ws://${target}`)
    relay(Number(port), hostname.replace(/^\[|\]$/g, ""), socket, (upstream) => {
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n")
      upstream.write(head)
    })
  })
  return { port, url: `${tls === undefined ? "http" : "https"}://127.0.0.1:${port}`, requests, drop }
})

/** A SOCKS proxy that connects to whatever IPv4 address it is asked for, but not to port 1. */
export const startSocksProxy = Effect.gen(function*() {
  const server = Net.createServer()
  const { port, relay } = yield* listen(server)
  server.on("connection", (socket) => {
    const reply = (code: number) => socket.write(Uint8Array.of(5, code, 0, 1, 0, 0, 0, 0, 0, 0))
    // Each of the client's messages waits for the answer to the one before, and comes in one piece.
    socket.once("data", () => {
      socket.write(Uint8Array.of(5, 0))
      socket.once("data", (request) => {
        const port = request.readUInt16BE(8)
        if (port === 1) return reply(5)
        return relay(port, request.subarray(4, 8).join("."), socket, () => reply(0))
      })
    })
  })
  return `socks5://127.0.0.1:${port}`
})

/** Whether a program is there; where it is not, tells why its tests are skipped. */
export const isMissing = (program: string, name: string): boolean => {
  const { error } = spawnSync(program, ["-h"])
  if (error !== undefined) console.log(`Skipped: ${name}, which needs ${program} (${error.message})`)
  return error !== undefined
}

// A port that is free now: these programs take none that the system chooses.
const freePort = Effect.map(Effect.scoped(listenRaw), ({ port }) => port)

/** Runs a program until the end of the scope; what it prints is kept. */
const run = (program: string, args: ReadonlyArray<string>) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] })
        const output = { text: "" }
        child.stdout.on("data", (chunk) => (output.text += String(chunk)))
        child.stderr.on("data", (chunk) => (output.text += String(chunk)))
        return { child, output }
      }),
      ({ child }) =>
        Effect.callback<void>((resume) => {
          if (child.exitCode !== null) return resume(Effect.void)
          child.once("exit", () => resume(Effect.void))
          child.kill("SIGKILL")
        })
    ),
    ({ child, output }) => ({
      output,
      ended: Effect.callback<never>((resume) => {
        child.once("exit", () => resume(Effect.die(new Error(`${program} has ended: ${output.text}`))))
      })
    })
  )

// They do not all tell when they listen; the connection that finds out says nothing.
const listening = (port: number, ended: Effect.Effect<never>) =>
  connectRaw(port).pipe(
    Effect.scoped,
    Effect.retry(Schedule.spaced("10 millis")),
    Effect.orDie,
    Effect.raceFirst(ended)
  )

/** A tinyproxy; `user` is the one that it lets through, as `name password`. */
export const startTinyproxy = Effect.fnUntraced(function*(user?: string) {
  const port = yield* freePort
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "tinyproxy-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
  )
  const config = join(folder, "tinyproxy.conf")
  const lines = [
    `Port ${port}`,
    "Listen 127.0.0.1",
    "LogLevel Connect",
    ...(user === undefined ? [] : [`BasicAuth ${user}`])
  ]
  writeFileSync(config, `${lines.join("\n")}\n`)
  const { ended, output } = yield* run("tinyproxy", ["-d", "-c", config])
  yield* listening(port, ended)
  return { port, output }
})

/** A microsocks; `user` is the one that it lets through, as `[name, password]`. */
export const startMicrosocks = Effect.fnUntraced(function*(user?: readonly [name: string, password: string]) {
  const port = yield* freePort
  const auth = user === undefined ? [] : ["-u", user[0], "-P", user[1]]
  const { ended, output } = yield* run("microsocks", ["-i", "127.0.0.1", "-p", String(port), ...auth])
  yield* listening(port, ended)
  return { port, output }
})
