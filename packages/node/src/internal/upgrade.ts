/**
 * Upgrade requests as Node parsed them.
 *
 * @since 0.1.0
 */
import * as Handshake from "@effect-ws/core/protocol/Handshake"
import * as ServerRuntime from "@effect-ws/core/ServerRuntime"
import type { Address } from "@effect-ws/core/Transport"
import * as Effect from "effect/Effect"
import * as Http from "node:http"
import type { Duplex } from "node:stream"
import * as NodeTls from "../NodeTls.ts"
import * as NodeTransport from "../NodeTransport.ts"
import { platform } from "./platform.ts"

/** What Node calls with each upgrade request. */
export type UpgradeListener = (request: Http.IncomingMessage, socket: Duplex, head: Buffer) => void

/** A server's runtime, and what to do with the upgrade requests that Node parsed. */
export const makeRuntime = Effect.fnUntraced(function*(
  options: ServerRuntime.ServerOptions & { readonly address: Address; readonly secure?: boolean | undefined }
) {
  const runtime = yield* ServerRuntime.make({ ...options, ...platform })
  const rejected = new Set<Duplex>()
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      for (const socket of rejected) socket.destroy()
    })
  )
  const reject = (response: Http.ServerResponse, rejection: ServerRuntime.Response) => {
    const { socket } = response.req
    rejected.add(socket)
    socket.once("close", () => rejected.delete(socket))
    response.shouldKeepAlive = false
    // All of it, and then the end, without waiting for the other side's.
    response.on("finish", () => socket.end(() => socket.destroy()))
    respond(response, rejection)
  }
  // From here on the socket is ours alone, and an error of it must neither be unhandled nor leave it open.
  const takeOver = (request: Http.IncomingMessage): Http.ServerResponse | undefined => {
    request.socket.on("error", destroy)
    const response = responseTo(request)
    if (response === undefined) request.socket.destroy()
    return response
  }
  const onUpgrade: UpgradeListener = (request, _socket, head) => {
    const response = takeOver(request)
    if (response !== undefined) runtime.upgrade(upgradeOf(request, response, head, reject))
  }
  const refuse = (request: Http.IncomingMessage, rejection: ServerRuntime.Response) => {
    const response = takeOver(request)
    if (response !== undefined) reject(response, rejection)
  }
  return { onUpgrade, refuse, reject, runtime }
})

// One for all sockets, as it stays with them.
function destroy(this: Duplex): void {
  this.destroy()
}

/**
 * The upgrade of a request whose socket is ours from here on; `refuse` sends a response that rejects it.
 */
export const upgradeOf = (
  request: Http.IncomingMessage,
  response: Http.ServerResponse,
  head: Buffer,
  refuse: (response: Http.ServerResponse, rejection: ServerRuntime.Response) => void
): ServerRuntime.Upgrade => {
  const { socket } = request
  let unanswered: { readonly response: Http.ServerResponse; readonly head: Buffer } | undefined = { response, head }
  // Let go with the answer: a connection outlives its request by far.
  const take = () => {
    if (unanswered === undefined) throw new Error("the request is answered already")
    const taken = unanswered
    unanswered = undefined
    return taken
  }
  return {
    method: request.method ?? "",
    httpVersion: request.httpVersion,
    url: request.url ?? "",
    // Not `headersDistinct`: before the Node releases of March 2026, it throws at a header called `__proto__`
    // (CVE-2026-21710).
    headers: Handshake.headersOf(request.rawHeaders),
    rawHeaders: request.rawHeaders,
    peerAddress: NodeTransport.peerAddress(request.socket),
    localAddress: NodeTransport.localAddress(request.socket),
    tls: NodeTls.stateOf(request.socket),
    accept: (headers) => {
      const { head, response } = take()
      response.writeHead(101, headers as Http.OutgoingHttpHeaders)
      response.flushHeaders()
      response.detachSocket(socket)
      socket.off("error", destroy)
      // Who ends what it sends is still sent what waits, and a Close. It is so in `node:http`, and not in `node:https`.
      socket.allowHalfOpen = true
      return NodeTransport.fromSocket(socket, head)
    },
    reject: (rejection) => refuse(take().response, rejection),
    abandon: () => socket.destroy(),
    onLost: (lost) => onGone(socket, lost)
  }
}

/**
 * What Node writes the response to an upgrade request with. There is none while an earlier request of the same socket waits
 * for its own: nobody who asks for an upgrade has reason to send it behind another request.
 */
export const responseTo = (request: Http.IncomingMessage): Http.ServerResponse | undefined => {
  const response = new Http.ServerResponse(request)
  try {
    response.assignSocket(request.socket)
    return response
  } catch {
    return undefined
  }
}

/** Sends a whole response. */
export const respond = (response: Http.ServerResponse, { body, headers, status }: ServerRuntime.Response): void => {
  response.writeHead(status, { ...headers, "content-length": Buffer.byteLength(body) })
  response.end(body)
}

// Who will not send any more cannot close a connection either (RFC 6455, section 7.1.2).
const onGone = (socket: Duplex, gone: () => void): () => void => {
  if (socket.readableEnded || socket.closed) gone()
  socket.once("end", gone)
  socket.once("close", gone)
  return () => {
    socket.off("end", gone)
    socket.off("close", gone)
  }
}
