/**
 * The client on Node.
 *
 * @since 0.1.0
 */
import * as WebSocketClient from "@effect-ws/core/WebSocketClient"
import {
  BadUpgrade,
  type ConnectError,
  ConnectionRefused,
  HostNotFound,
  InvalidRequest,
  NetworkFailure,
  UpgradeRejected
} from "@effect-ws/core/WebSocketError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { createHash, randomFillSync } from "node:crypto"
import * as Http from "node:http"
import * as Https from "node:https"
import { fromRaw } from "./internal/headers.ts"
import * as NodeCompression from "./NodeCompression.ts"
import * as NodeTransport from "./NodeTransport.ts"
import * as NodeUtf8 from "./NodeUtf8.ts"

const maxBodyBytes = 64 * 1024

// The first bytes of the body of a rejection: it tells the reason, but nobody vouches for its size.
const readBody = (response: Http.IncomingMessage, done: (body: string) => void): void => {
  const chunks: Array<Buffer> = []
  let room = maxBodyBytes
  const finish = () => done(Buffer.concat(chunks).toString())
  response.on("data", (chunk: Buffer) => {
    chunks.push(chunk.subarray(0, room))
    room -= chunk.length
    if (room <= 0) finish()
  })
  response.on("end", finish)
  response.on("error", finish)
}

const failureOf = (cause: NodeJS.ErrnoException, host: string): ConnectError["reason"] => {
  // The codes of Node's parser.
  if (cause.code?.startsWith("HPE_")) return new BadUpgrade({ section: "4.1", detail: "the response is not HTTP" })
  switch (cause.code) {
    case "ECONNREFUSED":
      return new ConnectionRefused({ cause })
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return new HostNotFound({ host, cause })
    default:
      return new NetworkFailure({ cause })
  }
}

const open = ({ headers, url }: WebSocketClient.OpeningRequest) =>
  Effect.callback<WebSocketClient.Opened, ConnectError["reason"]>((resume) => {
    const fail = (reason: ConnectError["reason"]) => {
      resume(Effect.fail(reason))
      request.destroy()
    }
    let request: Http.ClientRequest
    try {
      request = (url.secure ? Https : Http).request({
        host: url.host,
        port: url.port,
        path: url.target,
        headers,
        setHost: false,
        agent: false
      })
    } catch (cause) {
      // Node refuses header names and values that would not be HTTP.
      return resume(Effect.fail(new InvalidRequest({ detail: String(cause) })))
    }
    request.on("error", (cause) => fail(failureOf(cause, url.host)))
    request.on("upgrade", (response, socket, head) => {
      // Made at once, so that the socket is never without a listener for its errors.
      const transport = NodeTransport.fromSocket(socket, head)
      resume(Effect.succeed({ headers: fromRaw(response.rawHeaders), transport }))
    })
    request.on("response", (response) => {
      const { rawHeaders, statusCode: status = 0 } = response
      if (status === 101) return fail(new BadUpgrade({ section: "4.1", detail: "101 without an upgrade" }))
      readBody(response, (body) => fail(new UpgradeRejected({ status, headers: fromRaw(rawHeaders), body })))
    })
    request.end()
    return Effect.sync(() => request.destroy())
  })

/**
 * Provides `WebSocketClient` over Node's sockets. HTTP is parsed by `node:http`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<WebSocketClient.WebSocketClient> = Layer.effect(
  WebSocketClient.WebSocketClient,
  WebSocketClient.make({
    open,
    randomFill: randomFillSync,
    sha1: (bytes) => createHash("sha1").update(bytes).digest(),
    utf8: NodeUtf8.codec,
    compression: NodeCompression.compression
  })
)
