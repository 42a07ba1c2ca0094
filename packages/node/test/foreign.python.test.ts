import { HandshakeRequest, type Message, WebSocketClient } from "@effect-ws/core"
import { NodeWebSocketClient } from "@effect-ws/node"
import { afterAll, assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { certificates } from "./certificates.ts"
import { handOver, start, withTlsClient } from "./fixture.ts"
import { frameMatrix, type FramePeer, matrix, type Open } from "./foreignPeer.ts"

const interpreter = "/usr/bin/python3"
const { error, stderr, status } = spawnSync(interpreter, ["-c", "import websockets"], { encoding: "utf8" })
const skip = status !== 0
if (skip) {
  const reason = error?.message ?? stderr.trim().split("\n").at(-1)
  console.log(`Skipped: Python's websockets, which needs ${interpreter} and python3-websockets (${reason})`)
}

type Fields = Readonly<Record<string, unknown>>

/** One process for all tests of this file; they run at the same time, each under names of its own. */
class Python {
  private child: ChildProcess | undefined
  private readonly replies = new Map<number, (reply: Fields) => void>()
  private commands = 0
  private names = 0

  readonly name = (): string => `peer-${this.names++}`

  call(command: Fields): Effect.Effect<Fields> {
    return Effect.callback((resume) => {
      const id = this.commands++
      this.replies.set(
        id,
        ({ error, value }) =>
          resume(error === undefined ? Effect.succeed((value ?? {}) as Fields) : Effect.die(new Error(String(error))))
      )
      this.process().stdin?.write(`${JSON.stringify({ ...command, id })}\n`)
    })
  }

  stop(): void {
    this.child?.stdin?.end()
  }

  private process(): ChildProcess {
    if (this.child !== undefined) return this.child
    const script = fileURLToPath(new URL("python/peer.py", import.meta.url))
    const child = spawn(interpreter, [script], { stdio: ["pipe", "pipe", "inherit"] })
    this.child = child
    createInterface(child.stdout).on("line", (line) => {
      const reply = JSON.parse(line) as Fields
      this.replies.get(Number(reply["id"]))?.(reply)
    })
    return child
  }
}

const python = new Python()
afterAll(() => python.stop())

const encode = (message: Message.Message): Fields =>
  typeof message === "string" ? { text: message } : { binary: Buffer.from(message).toString("base64") }

const decode = ({ binary, text }: Fields): Message.Message =>
  typeof text === "string" ? text : new Uint8Array(Buffer.from(String(binary), "base64"))

const peerOf = (name: string, subprotocol: unknown): FramePeer => ({
  subprotocol: Effect.succeed(String(subprotocol)),
  send: (message) => Effect.asVoid(python.call({ do: "send", name, message: encode(message) })),
  sendFragments: (fragments) => Effect.asVoid(python.call({ do: "fragments", name, messages: fragments.map(encode) })),
  receive: Effect.map(python.call({ do: "receive", name }), decode),
  ping: (payload) => Effect.asVoid(python.call({ do: "ping", name, payload })),
  close: (code, reason) => Effect.asVoid(python.call({ do: "close", name, code, reason })),
  closed: Effect.map(
    python.call({ do: "closed", name }),
    ({ code, reason }) => ({ code: Number(code), reason: String(reason) })
  )
})

const named = Effect.acquireRelease(Effect.sync(python.name), (name) => python.call({ do: "drop", name }))

const client: Open<FramePeer> = Effect.fnUntraced(function*({ offered, spoken }) {
  const { accept, serving } = yield* handOver({ subprotocols: spoken })
  const { url } = yield* start(serving)
  const name = yield* named
  const { subprotocol } = yield* python.call({ do: "connect", name, url, offered })
  return { peer: peerOf(name, subprotocol), connection: yield* accept }
})

const secureClient: Open<FramePeer> = Effect.fnUntraced(function*({ offered, spoken }) {
  const { authority, server: tls } = yield* certificates
  const { accept, serving } = yield* handOver({ subprotocols: spoken })
  const { url } = yield* start(serving, { tls })
  const name = yield* named
  const { subprotocol } = yield* python.call({ do: "connect", name, url, offered, authority: authority.cert })
  return { peer: peerOf(name, subprotocol), connection: yield* accept }
})

const server: Open<FramePeer> = Effect.fnUntraced(function*({ offered, spoken }) {
  const name = yield* named
  const { port } = yield* python.call({ do: "listen", name, spoken })
  const connection = yield* WebSocketClient.connect(`ws://127.0.0.1:${port}`, { subprotocols: offered })
  const { subprotocol } = yield* python.call({ do: "accept", name })
  return { peer: peerOf(name, subprotocol), connection }
}, Effect.provide(NodeWebSocketClient.layer))

const secureServer: Open<FramePeer> = Effect.fnUntraced(function*({ offered, spoken }) {
  const { authority, server: certificate } = yield* certificates
  const name = yield* named
  const { port } = yield* python.call({ do: "listen", name, spoken, certificate })
  const connection = yield* WebSocketClient.connect(`wss://127.0.0.1:${port}`, { subprotocols: offered }).pipe(
    withTlsClient({ ca: authority.cert })
  )
  const { subprotocol } = yield* python.call({ do: "accept", name })
  return { peer: peerOf(name, subprotocol), connection }
})

matrix("Python's websockets as client", client, { skip })
frameMatrix("Python's websockets as client", client, { skip })
matrix("Python's websockets as client, over TLS", secureClient, { skip })
frameMatrix("Python's websockets as client, over TLS", secureClient, { skip })
matrix("Python's websockets as server", server, { skip })
frameMatrix("Python's websockets as server", server, { skip })
matrix("Python's websockets as server, over TLS", secureServer, { skip })
frameMatrix("Python's websockets as server, over TLS", secureServer, { skip })

const rejection = { status: 403, headers: { "x-reason": "unknown" }, body: "not you" }

describe.skipIf(skip)("Python's websockets as client", () => {
  it.live("sees the response to a rejected handshake (§4.2.2)", () =>
    Effect.gen(function*() {
      const { serving } = yield* handOver({
        handshake: () => Effect.fail(new HandshakeRequest.HandshakeRejected(rejection))
      })
      const { url } = yield* start(serving)
      const { headers, status } = yield* python.call({ do: "connect", name: yield* named, url, offered: [] })
      assert.strictEqual(status, 403)
      assert.strictEqual((headers as Fields)["x-reason"], "unknown")
    }))
})

describe.skipIf(skip)("Python's websockets as server", () => {
  it.live("rejects a handshake, and its response is the error (§4.1)", () =>
    Effect.gen(function*() {
      const { port } = yield* python.call({ do: "listen", name: yield* named, rejection })
      const error = yield* Effect.flip(WebSocketClient.connect(`ws://127.0.0.1:${port}`))
      if (error.reason._tag !== "UpgradeRejected") return assert.fail(error.message)
      const { body, headers, status } = error.reason
      assert.deepStrictEqual([status, headers["x-reason"], body], [403, "unknown", "not you"])
    }).pipe(Effect.provide(NodeWebSocketClient.layer)))
})
