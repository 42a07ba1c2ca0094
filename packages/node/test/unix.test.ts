import { type HandshakeRequest, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketClient, NodeWebSocketServer } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Layer, Option, Scope } from "effect"
import { spawnSync } from "node:child_process"
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs"
import * as Http from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Ws from "ws"
import { certificates } from "./certificates.ts"
import { echo, start, withTlsClient } from "./fixture.ts"

/** A folder of the test's own. */
const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "effect-ws-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true }))
)

const socketPath = Effect.map(folder, (path) => join(path, "app.sock"))

/** The file of a server that was killed. */
const staleSocket = Effect.tap(socketPath, (path) =>
  Effect.sync(() => {
    const program = `require("net").createServer().listen(process.argv[1], () => process.kill(process.pid, "SIGKILL"))`
    spawnSync(process.execPath, ["-e", program, path])
    assert.isTrue(statSync(path).isSocket())
  }))

const talk = Effect.fnUntraced(function*(url: string) {
  const connection = yield* WebSocketClient.connect(url)
  yield* connection.send("hello")
  assert.strictEqual(yield* connection.receive, "hello")
}, Effect.scoped)

const withClient = Effect.provide(NodeWebSocketClient.layer)

describe.skipIf(process.platform === "win32")("a server at a Unix socket", () => {
  it.live("is reached by its own url", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      const { server } = yield* start(echo, { socketPath: path })
      assert.deepStrictEqual(server.address, { _tag: "Unix", path })
      assert.strictEqual(server.url, `ws+unix://${path}`)
      yield* talk(server.url)
    }).pipe(withClient))

  it.live("is asked for the path behind its own, and named localhost (RFC 7230, section 5.4)", () =>
    Effect.gen(function*() {
      const seen = yield* Deferred.make<HandshakeRequest.HandshakeRequest>()
      const handshake = (request: HandshakeRequest.HandshakeRequest) =>
        Effect.as(Deferred.succeed(seen, request), { data: undefined })
      const serving = WebSocketServer.serve(() => Effect.never, { path: "/chat", handshake })
      const { url } = yield* start(serving, { socketPath: yield* socketPath })
      yield* WebSocketClient.connect(`${url}:/chat?name=Ada`)
      const { headers, peerAddress, query } = yield* Deferred.await(seen)
      assert.deepStrictEqual([headers["host"], query.get("name")], ["localhost", "Ada"])
      assert.deepStrictEqual(peerAddress, Option.none())
    }).pipe(withClient))

  it.live("speaks TLS as well", () =>
    Effect.gen(function*() {
      const { authority, server: tls } = yield* certificates
      const { url } = yield* start(echo, { socketPath: yield* socketPath, tls })
      assert.match(url, /^wss\+unix:/)
      yield* talk(url).pipe(withTlsClient({ ca: authority.cert }))
      const { reason } = yield* Effect.flip(WebSocketClient.connect(url))
      assert.strictEqual(reason._tag, "CertificateRejected")
    }).pipe(withClient))

  it.live("may have any name", () =>
    Effect.gen(function*() {
      const path = join(yield* folder, "a b:c?d#e%f%20ü.sock")
      const { url } = yield* start(echo, { socketPath: path })
      assert.isTrue(statSync(path).isSocket())
      yield* talk(`${url}:/`)
    }).pipe(withClient))

  it.live.skipIf(process.platform !== "linux")("may be abstract, without a file", () =>
    Effect.gen(function*() {
      const { url } = yield* start(echo, { socketPath: `\0effect-ws-test-${process.pid}` })
      assert.isTrue(url.startsWith("ws+unix:%00effect-ws-test-"))
      yield* talk(`${url}:/`)
    }).pipe(withClient))

  it.live("removes its file when it is released, and leaves the path free", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      for (let i = 0; i < 2; i++) {
        const scope = yield* Scope.make()
        const { url } = yield* Scope.provide(start(echo, { socketPath: path }), scope)
        const connection = yield* WebSocketClient.connect(url)
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual((yield* connection.closed).code, 1001)
        assert.isFalse(existsSync(path))
      }
    }).pipe(withClient))

  const failure = (path: string) =>
    Effect.flip(Effect.scoped(Layer.build(NodeWebSocketServer.layer({ socketPath: path }))))

  it.live("does not take the path of one that lives: AddressInUse", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      const { url } = yield* start(echo, { socketPath: path })
      const error = yield* failure(path)
      assert.strictEqual(error.reason._tag, "AddressInUse")
      assert.deepStrictEqual(error.address, { _tag: "Unix", path })
      assert.strictEqual(error.message, `AddressInUse: ${path}`)
      yield* talk(url)
    }).pipe(withClient))

  it.live("does not remove the file of one that was killed: AddressInUse", () =>
    Effect.gen(function*() {
      const path = yield* staleSocket
      assert.strictEqual((yield* failure(path)).reason._tag, "AddressInUse")
      assert.isTrue(existsSync(path))
    }))

  it.live.each(["missing/app.sock", "x".repeat(300), ""])(
    "cannot be at %j: ListenFailed",
    (name) =>
      Effect.gen(function*() {
        const path = name === "" ? "" : join(yield* folder, name)
        assert.strictEqual((yield* failure(path)).reason._tag, "ListenFailed")
      })
  )
})

describe.skipIf(process.platform === "win32")("a client of a Unix socket", () => {
  const failure = (url: string) => Effect.map(Effect.flip(WebSocketClient.connect(url)), ({ reason }) => reason._tag)

  it.live("finds nobody there: ConnectionRefused", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* failure(`ws+unix:${yield* socketPath}`), "ConnectionRefused")
      assert.strictEqual(yield* failure(`ws+unix:${yield* staleSocket}:/path`), "ConnectionRefused")
      const file = join(yield* folder, "file")
      writeFileSync(file, "")
      assert.strictEqual(yield* failure(`ws+unix:${file}`), "ConnectionRefused")
    }).pipe(withClient))

  it.live.each([
    ["x".repeat(300), "NetworkFailure"],
    ["a%00b", "NetworkFailure"],
    ["a%", "InvalidUrl"]
  ])("cannot connect to %s: %s", ([name, expected]) =>
    Effect.gen(function*() {
      assert.strictEqual(yield* failure(`ws+unix:${yield* folder}/${name}:/`), expected)
    }).pipe(withClient))
})

describe.skipIf(process.platform === "win32")("ws at a Unix socket", () => {
  it.live("as client", () =>
    Effect.gen(function*() {
      const { url } = yield* start(echo, { socketPath: yield* socketPath })
      const socket = yield* Effect.acquireRelease(
        Effect.sync(() => new Ws.WebSocket(`${url}:/path?query`)),
        (socket) => Effect.sync(() => socket.terminate())
      )
      const reply = Effect.callback<string>((resume) => {
        socket.on("open", () => socket.send("hello"))
        socket.on("message", (data) => resume(Effect.succeed(String(data))))
      })
      assert.strictEqual(yield* reply, "hello")
    }))

  it.live("as server", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      const http = Http.createServer()
      const server = new Ws.WebSocketServer({ server: http })
      server.on("connection", (socket, request) => {
        socket.on("message", (data) => socket.send(`${request.url}: ${String(data)}`))
      })
      yield* Effect.acquireRelease(
        Effect.callback<void>((resume) => void http.listen(path, () => resume(Effect.void))),
        () =>
          Effect.callback<void>((resume) => {
            for (const socket of server.clients) socket.terminate()
            http.close(() => resume(Effect.void))
          })
      )
      const connection = yield* WebSocketClient.connect(`ws+unix://${path}:/path?query`)
      yield* connection.send("hello")
      assert.strictEqual(yield* connection.receive, "/path?query: hello")
      yield* connection.close()
    }).pipe(withClient))
})
