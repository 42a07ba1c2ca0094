/**
 * The client on Node.
 *
 * @since 0.1.0
 */
import type { Connection } from "@effect-ws/core/Connection"
import * as Handshake from "@effect-ws/core/protocol/Handshake"
import * as WebSocketClient from "@effect-ws/core/WebSocketClient"
import {
  BadUpgrade,
  CertificateRejected,
  type ConnectError,
  ConnectionRefused,
  HostNotFound,
  InvalidRequest,
  NetworkFailure,
  UpgradeRejected
} from "@effect-ws/core/WebSocketError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { randomFillSync } from "node:crypto"
import * as Http from "node:http"
import * as Https from "node:https"
import type { Socket } from "node:net"
import type { Duplex } from "node:stream"
import * as Tls from "node:tls"
import { platform } from "./internal/platform.ts"
import * as NodeTls from "./NodeTls.ts"
import * as NodeTransport from "./NodeTransport.ts"

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

const open = (tls: Tls.ConnectionOptions, over?: Duplex) => ({ headers, url }: WebSocketClient.OpeningRequest) =>
  Effect.callback<WebSocketClient.Opened, ConnectError["reason"]>((resume) => {
    const fail = (reason: ConnectError["reason"]) => {
      resume(Effect.fail(reason))
      request.destroy()
    }
    let request: Http.ClientRequest
    try {
      const encrypts = url.secure && over === undefined
      request = (encrypts ? Https : Http).request({
        ...(encrypts && tls),
        socketPath: url.socketPath,
        host: url.host,
        port: url.port,
        path: url.target,
        headers,
        setHost: false,
        ...(over === undefined ? { agent: false } : { createConnection: () => over })
      })
    } catch (cause) {
      // Node refuses header names and values that would not be HTTP.
      return resume(Effect.fail(new InvalidRequest({ detail: String(cause) })))
    }
    // Whoever had the socket before may have paused it.
    request.on("socket", (socket) => socket.resume())
    request.on("error", (cause) => fail(failureOf(cause, url.host, request.socket)))
    request.on("upgrade", (response, socket, head) => {
      if (response.httpVersion !== "1.1") {
        socket.destroy()
        return fail(new BadUpgrade({ section: "4.1", detail: "the response is not HTTP/1.1" }))
      }
      // Made at once, so that the socket is never without a listener for its errors.
      const transport = NodeTransport.fromSocket(socket, head)
      resume(Effect.succeed({ headers: Handshake.headersOf(response.rawHeaders), transport }))
    })
    request.on("response", (response) => {
      const { rawHeaders, statusCode: status = 0 } = response
      if (status === 101) return fail(new BadUpgrade({ section: "4.1", detail: "101 without an upgrade" }))
      readBody(
        response,
        (body) => fail(new UpgradeRejected({ status, headers: Handshake.headersOf(rawHeaders), body }))
      )
    })
    request.end()
    return Effect.sync(() => request.destroy())
  })

/**
 * The options of `node:tls` for a client, but for those that say where to connect.
 *
 * **Details**
 *
 * | option | default | meaning |
 * |---|---|---|
 * | `ca` | Node's | the authorities that may have issued the server's certificate |
 * | `cert`, `key` | none | the certificate that this client shows, if the server asks for one |
 * | `servername` | the URL's host | the name in SNI, which the server's certificate has to be for |
 * | `checkServerIdentity` | Node's | how that is checked |
 * | `ALPNProtocols` | `["http/1.1"]` | what is offered in ALPN |
 * | `rejectUnauthorized` | true | false takes any certificate |
 *
 * **Gotchas**
 *
 * Without verification, anybody on the way to the server can read and change everything: better trust a certificate of
 * your own by `ca`. The environment variable `NODE_TLS_REJECT_UNAUTHORIZED` has no say here.
 *
 * @category models
 * @since 0.1.0
 */
export type TlsOptions = Omit<
  Tls.ConnectionOptions,
  "host" | "port" | "path" | "socket" | "lookup" | "timeout" | "session"
>

/**
 * The options of a client, for all of its connections: `tls` for those to `wss:` and `wss+unix:` URLs.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly tls?: TlsOptions | undefined
}

const make = (tls: Tls.ConnectionOptions, over?: Duplex) =>
  WebSocketClient.make({
    // Stated, as Node would let the environment turn verification off.
    open: open({ rejectUnauthorized: true, ALPNProtocols: ["http/1.1"], ...tls }, over),
    randomFill: randomFillSync,
    ...platform
  })

/**
 * Provides `WebSocketClient` over Node's sockets. HTTP is parsed by `node:http`, TLS is that of `node:tls`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<WebSocketClient.WebSocketClient> = Layer.effect(
  WebSocketClient.WebSocketClient,
  make({})
)

/**
 * Provides `WebSocketClient` with options of its own: other authorities, a client certificate.
 *
 * **Details**
 *
 * Certificates and keys are read once, when the layer is built; there a bad one is an error.
 *
 * **Example** (Trusting an authority of one's own)
 *
 * ```ts
 * import { NodeWebSocketClient } from "@effect-ws/node"
 *
 * const clientOf = (authority: string) => NodeWebSocketClient.layerWith({ tls: { ca: authority } })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  { tls = {} }: Options
): Layer.Layer<WebSocketClient.WebSocketClient, NodeTls.InvalidCertificate> =>
  Layer.effect(
    WebSocketClient.WebSocketClient,
    Effect.flatMap(
      tls.secureContext === undefined ? NodeTls.secureContext(tls) : Effect.succeed(tls.secureContext),
      (secureContext) => make({ ...tls, secureContext })
    )
  )

/**
 * Connects to a URL over a socket, or any duplex stream, that leads to its server already.
 *
 * **When to use**
 *
 * To connect through a tunnel of one's own, over TLS with options of one's own, or to continue on a socket that has spoken
 * another protocol before. Where the server has answered the handshake already, use `NodeConnection.fromUpgraded`.
 *
 * **Details**
 *
 * The URL supplies what the request says; with `wss:`, the socket is the encrypted one. `initialData` are bytes that were
 * read from it already. The socket belongs to the effect from the beginning, and is gone if that fails or is interrupted.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromSocket = (
  socket: Duplex,
  url: string | URL,
  { initialData, ...options }: WebSocketClient.ConnectOptions & { readonly initialData?: Uint8Array | undefined } = {}
): Effect.Effect<Connection, ConnectError, Scope.Scope> =>
  Effect.gen(function*() {
    // A reset must not be an unhandled error, whoever listens later.
    socket.on("error", () => {})
    if (initialData !== undefined && initialData.length > 0) socket.unshift(initialData)
    const client = yield* make({}, socket)
    return yield* client.connect(url, options)
  }).pipe(Effect.onError(() => Effect.sync(() => socket.destroy())))
