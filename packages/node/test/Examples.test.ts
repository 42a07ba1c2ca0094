import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem, Option, Stream } from "effect"
import { ChildProcess } from "effect/process"
import type { AddressInfo } from "node:net"
import { fileURLToPath } from "node:url"
import * as Ws from "ws"

const examples = fileURLToPath(new URL("../../../examples", import.meta.url))

// What a program that ends by itself has to print, line by line.
const programs: Record<string, ReadonlyArray<RegExp>> = {
  "adopt.ts": [/^asked: PONG$/, /^over the same socket: echo of hello$/],
  "backpressure.ts": [
    /^\d+\.\d MiB sent, \d+ messages \(\d\.\d MiB\) queued, memory \+-?\d+\.\d MiB$/,
    /^send is suspended; now the server begins to read$/,
    /^64\.0 MiB arrived$/
  ],
  "binary.ts": [/^3 bytes, SHA-256 039058c6/, /^33554432 bytes, SHA-256 23e725ca/],
  "browser-client.ts": [
    /^echo: hello$/,
    /^can it ping\? no: Unsupported$/,
    /^Unsupported \(ws:.*\): headers$/,
    /^a path that is not served: Undisclosed$/,
    /^too slow: ReceiveOverflow \(close code 4008\): slow reader$/
  ],
  "errors.ts": [
    /\/done: an ordinary end$/,
    /\/full: closed with 1013 come back later$/,
    /\/crash: lost without a Close$/,
    /\/large: given up, message exceeds 1048576 bytes$/,
    /\/silent: given up, the peer is dead$/,
    /\/missing: rejected with HTTP 404, not found$/,
    /^ws:\/\/127\.0\.0\.1:1: nobody listens there$/,
    /^http:\/\/127\.0\.0\.1: not a WebSocket URL, /
  ],
  "express.ts": [
    /^GET \/: a page of Express$/,
    /^\/echo: hello$/,
    /^\/echo takes no more than 1 KiB: 1009$/,
    /^\/time: high time$/,
    /^\/other: UpgradeRejected .*: HTTP 404$/
  ],
  "graceful-shutdown.ts": [
    /^3 clients connected, interrupting the server$/,
    /^a client received \["the server is going down"\], then 1001$/,
    /^a client received \["the server is going down"\], then 1001$/,
    /^a client received \["the server is going down"\], then 1001$/,
    /^a late client: ConnectionRefused$/
  ],
  "headers-and-cookies.ts": [
    /^welcome, Ada; cookie set: token=t1; HttpOnly$/,
    /^welcome, Grace; cookie set: token=t2; HttpOnly$/,
    /^welcome, Edsger; cookie set: token=t3; HttpOnly$/,
    /^rejected with 401 \(www-authenticate: Bearer\): who are you\?$/
  ],
  "http-router.ts": [
    /^GET \/: notes are posted and followed at \/notes$/,
    /^a message: welcome, Grace$/,
    /^POST \/notes: 204$/,
    /^a message: Ada notes: it works$/,
    /^rejected with 401: who are you\?$/
  ],
  "keepalive.ts": [
    /^round trip: \d+\.\d\d ms$/,
    /^Pong for the heartbeat$/,
    /^Pong for the heartbeat$/,
    /^HeartbeatTimeout after \d+ ms$/
  ],
  "metrics.ts": [
    /^while a client is connected:$/,
    /^websocket_connections\{role="server"\} 1$/,
    /^websocket_messages_total\{role="server",direction="received"\} 3$/,
    /^websocket_handshakes_total\{role="server",outcome="accepted"\} 1$/,
    /^websocket_handshakes_total\{role="server",outcome="origin"\} 1$/,
    /^after it has left:$/,
    /^websocket_messages_total\{role="server",direction="sent"\} 3$/
  ],
  "mtls.ts": [
    /^Ada: welcome, Ada, until \d{4}-/,
    /^Eve: rejected with 403, DEPTH_ZERO_SELF_SIGNED_CERT$/,
    /^somebody: rejected with 401, no certificate$/
  ],
  "outbound-proxy.ts": [
    /^the proxy connects to the server$/,
    /^the proxy connects to the server$/,
    /^\/new says hello$/,
    /^the proxy does not take the password$/,
    /^no_proxy exempts the server$/,
    /^\/new says hello$/
  ],
  "path-router.ts": [
    /^\/echo with no subprotocol: Ada$/,
    /^\/greet with greet\.v2: Hi Ada!$/,
    /^\/greet with greet\.v1: Good day, Ada\.$/,
    /^BadUpgrade .*: the server chose none of the subprotocols offered$/,
    /^UpgradeRejected .*: HTTP 404$/
  ],
  "proxy-relay.ts": [/^upstream is held back: true$/, /^the end: 4000 that was all$/, /^32 MiB have arrived$/],
  "reconnect.ts": [
    /^connecting, attempt 1$/,
    /^open$/,
    /^waiting for attempt 1: close code 1001$/,
    /^connecting, attempt 1$/,
    /^waiting for attempt 2: ConnectionRefused /,
    /^open$/,
    /^received token \d+: subscribe$/,
    /^received token \d+: sent while nobody listened$/,
    /^closed: ConnectionEnded: PeerClosed \(close code 4003\): enough$/,
    /^gave up: enough$/
  ],
  "rooms.ts": [
    /^to Ada: here are Ada$/,
    /^to Grace: here are Ada, Grace$/,
    /^to Ada: Grace has joined$/,
    /^to Ada: Ada says \(1\): the kettle is on$/,
    /^to Grace: Ada has left$/,
    /^to Ada: Grace says \(2\): milk\?$/,
    /^to Ada: Grace says \(3\): sugar\?$/,
    /^to Ada: Ada says \(4\): both$/,
    /^to Grace: Grace says \(8\): four$/,
    /^to Ada: something was missed$/,
    /^to Ada: here are Grace, Ada$/
  ],
  "rpc.ts": [/^found: Grace$/, /^not found: NoSuchUser 7$/, /^streamed, and added up: 50005000$/],
  "state-monitor.ts": [
    /^state: Open$/,
    /^Pong with 4 bytes$/,
    /^Ping with 4 bytes$/,
    /^state: Closing$/,
    /^closed by Remote side, code 4000, reason "seen enough", clean$/
  ],
  "subprotocols.ts": [
    /^\/list for \[chat\.v1, chat\.v2\]: chat\.v2$/,
    /^\/list for \[\]: none$/,
    /^\/list for \[chat\.v0\]: BadUpgrade$/,
    /^\/hook for \[chat\.v2, chat\.v4\]: chat\.v2$/,
    /^\/hook\?tester for \[chat\.v2, chat\.v4\]: chat\.v4$/
  ],
  "tls.ts": [
    /^wss:\/\/127\.0\.0\.1:\d+ is not trusted: self-signed certificate/,
    /^wss:\/\/127\.0\.0\.1:\d+ says: hello$/
  ],
  "typed-messages.ts": [
    /^json: balance 100$/,
    /^json: balance 70$/,
    /^json: refused, not enough money$/,
    /^json: not sent, EncodeError$/,
    /^json: closed with 1000 goodbye$/,
    /^msgpack: balance 100$/,
    /^msgpack: closed with 1000 goodbye$/,
    /^to .*"much".*: .*"Refused".*Expected number at .*amount/,
    /^to give me money: closed with 1007 Malformed$/,
    /^to give me money: closed with 1003 UnexpectedType$/
  ],
  "unix-socket.ts": [/^ws\+unix:\/\/\/.*\/greet\.sock says: hello, Ada$/, /^the socket is gone$/]
}

const start = (file: string, ...args: Array<string>) =>
  ChildProcess.make(process.execPath, [`${examples}/${file}`, ...args], { stderr: "inherit" })

const run = Effect.fnUntraced(function*(file: string, ...args: Array<string>) {
  const child = yield* start(file, ...args)
  const lines = yield* child.stdout.pipe(Stream.decodeText(), Stream.splitLines, Stream.runCollect)
  return { lines, exitCode: yield* child.exitCode }
}, Effect.scoped)

const startEchoServer = Effect.fnUntraced(function*(...args: Array<string>) {
  const server = yield* start("echo-server.ts", "0", ...args)
  const announcement = yield* server.stdout.pipe(Stream.decodeText(), Stream.splitLines, Stream.runHead)
  const url = /ws:\S+/.exec(Option.getOrElse(announcement, () => ""))?.[0]
  return url === undefined ? yield* Effect.die(new Error("no url is announced")) : { server, url }
})

const assertPrinted = (lines: ReadonlyArray<string>, expected: ReadonlyArray<RegExp>) => {
  let from = 0
  for (const pattern of expected) {
    const at = lines.findIndex((line, i) => i >= from && pattern.test(line))
    assert.isAtLeast(at, 0, `${pattern} is missing in:\n${lines.join("\n")}`)
    from = at + 1
  }
}

// A fuzzing server with three cases: an ordinary one, an invalid frame, and an end without a Close.
const fuzzingServer = Effect.fnUntraced(function*(perMessageDeflate: boolean) {
  const requests: Array<string> = []
  const extensions: Array<string> = []
  const echoes: Array<string> = []
  const closeCodes: Array<number> = []
  const server = yield* Effect.acquireRelease(
    Effect.callback<Ws.WebSocketServer>((resume) => {
      const server = new Ws.WebSocketServer({ port: 0, host: "127.0.0.1", perMessageDeflate })
      server.on("listening", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.callback<void>((resume) => {
        for (const socket of server.clients) socket.terminate()
        server.close(() => resume(Effect.void))
      })
  )
  server.on("connection", (socket, request) => {
    const url = request.url ?? ""
    requests.push(url)
    if (url === "/getCaseCount") {
      socket.send("3")
      return socket.close()
    }
    if (url.startsWith("/updateReports?")) return socket.close(1000)
    const send = { "1": "hello", "2": "before the invalid frame", "3": "goodbye" }
    extensions.push(socket.extensions)
    const number = new URLSearchParams(url.split("?")[1]).get("case") as keyof typeof send
    socket.on("close", (code) => closeCodes.push(code))
    socket.on("message", (data) => {
      echoes.push(data.toString())
      if (number === "1") socket.close(1000)
      if (number === "2") request.socket.write(Uint8Array.of(0x83, 0))
      if (number === "3") socket.terminate()
    })
    socket.send(send[number])
  })
  return { requests, echoes, closeCodes, extensions, url: `ws://127.0.0.1:${(server.address() as AddressInfo).port}` }
})

describe("examples", { timeout: 60_000 }, () => {
  it.live("all are run here", () =>
    Effect.gen(function*() {
      const files = yield* FileSystem.FileSystem.use((files) => files.readDirectory(examples))
      const known = [...Object.keys(programs), "autobahn-client.ts", "echo-client.ts", "echo-server.ts"]
      assert.sameMembers(files.filter((file) => file.endsWith(".ts")), known)
    }).pipe(Effect.provide(NodeServices.layer)))

  it.live.each(Object.entries(programs))("%s", ([file, expected]) =>
    Effect.gen(function*() {
      const { exitCode, lines } = yield* run(file)
      assertPrinted(lines, expected)
      assert.strictEqual(exitCode, 0)
    }).pipe(Effect.provide(NodeServices.layer)))

  it.live("echo-server.ts and echo-client.ts", () =>
    Effect.gen(function*() {
      const { server, url } = yield* startEchoServer()
      const { exitCode, lines } = yield* run("echo-client.ts", url)
      assert.deepStrictEqual(lines, ["hello -> hello", "how are you? -> how are you?", "さようなら -> さようなら"])
      assert.strictEqual(exitCode, 0)
      yield* server.kill({ killSignal: "SIGINT" })
      assert.strictEqual(yield* server.exitCode, 130)
    }).pipe(Effect.provide(NodeServices.layer)))

  it.live("presence/main.ts", () =>
    Effect.gen(function*() {
      const server = yield* start("presence/main.ts", "0")
      const announcement = yield* server.stdout.pipe(Stream.decodeText(), Stream.splitLines, Stream.runHead)
      const url = /ws:\S+/.exec(Option.getOrElse(announcement, () => ""))?.[0]
      assert.isDefined(url)
      const welcome = yield* Effect.callback<string>((resume) => {
        const ada = new Ws.WebSocket(`${url}Ada`)
        ada.on("message", (data) => {
          resume(Effect.succeed(data.toString()))
          ada.close()
        })
      })
      assert.strictEqual(welcome, "{\"_tag\":\"Welcome\",\"people\":[{\"name\":\"Ada\",\"status\":\"here\"}]}")
      yield* server.kill({ killSignal: "SIGINT" })
      assert.strictEqual(yield* server.exitCode, 130)
    }).pipe(Effect.provide(NodeServices.layer)))

  it.live("autobahn-client.ts runs all cases, however they end", () =>
    Effect.gen(function*() {
      const { closeCodes, echoes, extensions, requests, url } = yield* fuzzingServer(false)
      const { exitCode, lines } = yield* run("autobahn-client.ts", url)
      assertPrinted(lines, [
        /^case 1 of 3 ended with 1000 $/,
        /^case 2 of 3 ended with 1002 reserved opcode 3$/,
        /^case 3 of 3 ended with 1006 $/,
        /^3 cases in .*; by close code: \{ '1000': 1, '1002': 1, '1006': 1 \}$/
      ])
      assert.strictEqual(exitCode, 0)
      assert.deepStrictEqual(requests, [
        "/getCaseCount",
        "/runCase?case=1&agent=effect-ws",
        "/runCase?case=2&agent=effect-ws",
        "/runCase?case=3&agent=effect-ws",
        "/updateReports?agent=effect-ws"
      ])
      assert.deepStrictEqual(echoes, ["hello", "before the invalid frame", "goodbye"])
      assert.deepStrictEqual(closeCodes, [1000, 1002, 1006])
      assert.deepStrictEqual(extensions, ["", "", ""])
    }).pipe(Effect.provide(NodeServices.layer)))

  it.live("autobahn-client.ts --deflate compresses in the cases", () =>
    Effect.gen(function*() {
      const { echoes, extensions, url } = yield* fuzzingServer(true)
      const { exitCode } = yield* run("autobahn-client.ts", url, "--deflate")
      assert.strictEqual(exitCode, 0)
      assert.deepStrictEqual(echoes, ["hello", "before the invalid frame", "goodbye"])
      assert.deepStrictEqual(extensions, Array.from({ length: 3 }, () => "permessage-deflate"))
    }).pipe(Effect.provide(NodeServices.layer)))

  it.live("echo-server.ts --deflate agrees to all that a client asks for", () =>
    Effect.gen(function*() {
      const { server, url } = yield* startEchoServer("--deflate")
      const perMessageDeflate = { serverNoContextTakeover: true, serverMaxWindowBits: 8, clientMaxWindowBits: 9 }
      const seen = yield* Effect.callback<ReadonlyArray<unknown>>((resume) => {
        const socket = new Ws.WebSocket(url, { perMessageDeflate })
        let response: unknown
        socket.on("upgrade", ({ headers }) => {
          response = headers["sec-websocket-extensions"]
        })
        socket.on("open", () => socket.send("hello ".repeat(1000)))
        socket.on("message", (data) => resume(Effect.succeed([response, data.toString()])))
        return Effect.sync(() => socket.terminate())
      })
      assert.deepStrictEqual(seen, [
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=8; client_max_window_bits=9",
        "hello ".repeat(1000)
      ])
      yield* server.kill({ killSignal: "SIGINT" })
    }).pipe(Effect.provide(NodeServices.layer)))
})
