/**
 * The opening request on Node's sockets; HTTP is parsed by `node:http`.
 *
 * @since 0.1.0
 */
import { headersOf } from "@effect-ws/core/protocol/Handshake"
import type * as WebSocketClient from "@effect-ws/core/WebSocketClient"
import {
  BadUpgrade,
  CertificateRejected,
  type ConnectError,
  ConnectionRefused,
  HostNotFound,
  NetworkFailure,
  UpgradeRejected
} from "@effect-ws/core/WebSocketError"
import * as Effect from "effect/Effect"
import * as Http from "node:http"
import * as Https from "node:https"
import type { Socket } from "node:net"
import type { Duplex } from "node:stream"
import * as Tls from "node:tls"
import * as NodeTransport from "../NodeTransport.ts"
import { fromNode } from "./fromNode.ts"

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

const failureOf = (
  cause: NodeJS.ErrnoException,
  host: string,
  socket: Socket | null
): ConnectError["reason"] => {
  // The codes of Node's parser.
  if (cause.code?.startsWith("HPE_")) return new BadUpgrade({ section: "4.1", detail: "the response is not HTTP" })
  if (isRejection(cause, socket)) return new CertificateRejected({ detail: cause.message, cause })
  switch (cause.code) {
    case "ECONNREFUSED":
    // A Unix socket that does not exist.
    case "ENOENT":
      return new ConnectionRefused({ cause })
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return new HostNotFound({ host, cause })
    default:
      return new NetworkFailure({ cause })
  }
}

// What Node found against a certificate, it notes at the socket: the code of the error, or else its message.
const isRejection = ({ code, message }: NodeJS.ErrnoException, socket: Socket | null): boolean =>
  socket instanceof Tls.TLSSocket && (socket.authorizationError as unknown) === (code ?? message)

/**
 * Sends an opening request over a new socket, or the one that `createConnection` makes, and waits for its answer.
 *
 * **Details**
 *
 * When it fails or is interrupted, no socket is left.
 */
export const ask = (
  { headers, url }: WebSocketClient.OpeningRequest,
  options: Https.RequestOptions,
  createConnection?: () => Duplex
): Effect.Effect<WebSocketClient.Opened, ConnectError["reason"]> =>
  fromNode((resume) => {
    const fail = (reason: ConnectError["reason"]) => {
      resume(Effect.fail(reason))
      request.destroy()
    }
    const encrypts = url.secure && createConnection === undefined
    const request = (encrypts ? Https : Http).request({
      ...options,
      socketPath: url.socketPath,
      host: url.host,
      port: url.port,
      path: url.target,
      headers,
      setHost: false,
      ...(createConnection === undefined ? { agent: false } : { createConnection })
    })
    // Whoever had the socket before may have paused it.
    request.on("socket", (socket) => socket.resume())
    request.on("error", (cause) => fail(failureOf(cause, url.host, request.socket)))
    request.on("upgrade", (response, socket, head) => {
      // Made at once, so that the socket is never without a listener for its errors.
      const transport = NodeTransport.fromSocket(socket, head)
      if (response.httpVersion !== "1.1") {
        transport.destroy()
        return fail(new BadUpgrade({ section: "4.1", detail: "the response is not HTTP/1.1" }))
      }
      resume(Effect.succeed({ headers: headersOf(response.rawHeaders), transport }))
    })
    request.on("response", (response) => {
      const { rawHeaders, statusCode: status = 0 } = response
      if (status === 101) return fail(new BadUpgrade({ section: "4.1", detail: "101 without an upgrade" }))
      readBody(response, (body) => fail(new UpgradeRejected({ status, headers: headersOf(rawHeaders), body })))
    })
    request.end()
    return Effect.sync(() => request.destroy())
  })
