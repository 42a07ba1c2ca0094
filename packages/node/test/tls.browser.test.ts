import { NodeWebSocketServer } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import { createHash, X509Certificate } from "node:crypto"
import { existsSync } from "node:fs"
import * as Https from "node:https"
import type { AddressInfo } from "node:net"
import { chromium } from "playwright-core"
import { certificates } from "./certificates.ts"
import { handOver } from "./fixture.ts"

const executablePath = "/usr/bin/chromium"
const isInstalled = existsSync(executablePath)
if (!isInstalled) console.log(`tls.browser.test.ts is skipped: there is no ${executablePath}`)

/** A browser that trusts one certificate beside those that it knows. */
const launch = (certificate: string) => {
  const key = new X509Certificate(certificate).publicKey.export({ type: "spki", format: "der" })
  const trusted = createHash("sha256").update(key).digest("base64")
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", `--ignore-certificate-errors-spki-list=${trusted}`]
  return Effect.acquireRelease(
    Effect.promise(() => chromium.launch({ executablePath, args })),
    (browser) => Effect.promise(() => browser.close())
  )
}

describe("a browser over TLS", () => {
  it.live.skipIf(!isInstalled)(
    "talks to the server of its page, and closes it",
    () =>
      Effect.gen(function*() {
        const { server: tls } = yield* certificates
        const https = yield* Effect.acquireRelease(
          Effect.callback<Https.Server>((resume) => {
            const https = Https.createServer({ ...tls }, (_request, response) => {
              response.setHeader("content-type", "text/html").end("<title>a page</title>")
            })
            https.listen(0, "127.0.0.1", () => resume(Effect.succeed(https)))
          }),
          (https) =>
            Effect.callback<void>((resume) => {
              https.close(() => resume(Effect.void))
              https.closeAllConnections()
            })
        )
        const { accept, serving } = yield* handOver({ path: "/socket", subprotocols: ["v1"] })
        yield* Layer.build(Layer.provide(serving, NodeWebSocketServer.layerFromHttpServer(Effect.succeed(https))))
        const { port } = https.address() as AddressInfo
        const browser = yield* launch(tls.cert)
        const page = yield* Effect.promise(() => browser.newPage())
        yield* Effect.promise(() => page.goto(`https://localhost:${port}/`))

        const events = yield* Effect.forkChild(Effect.promise(() =>
          page.evaluate((url) =>
            new Promise<ReadonlyArray<unknown>>((resolve) => {
              const events: Array<unknown> = []
              const socket = new WebSocket(url, ["v1"])
              socket.binaryType = "arraybuffer"
              socket.addEventListener("open", () => {
                events.push(["open", socket.protocol])
                socket.send("Grüße")
                socket.send(Uint8Array.of(1, 2, 3))
              })
              socket.addEventListener("message", ({ data }) => {
                events.push(typeof data === "string" ? data : [...new Uint8Array(data)])
                if (typeof data !== "string") socket.close(4000, "bye")
              })
              socket.addEventListener("close", ({ code, wasClean }) => resolve([...events, ["close", code, wasClean]]))
            }), `wss://localhost:${port}/socket`)
        ))
        const connection = yield* accept
        assert.strictEqual(connection.request.headers["origin"], `https://localhost:${port}`)
        for (const message of ["Grüße", Uint8Array.of(1, 2, 3)]) {
          assert.deepStrictEqual(yield* connection.receive, message)
          yield* connection.send(message)
        }
        const { code, reason, wasClean } = yield* connection.closed
        assert.deepStrictEqual([code, reason, wasClean], [4000, "bye", true])
        assert.deepStrictEqual(yield* Fiber.join(events), [
          ["open", "v1"],
          "Grüße",
          [1, 2, 3],
          ["close", 4000, true]
        ])
      }),
    60_000
  )
})
