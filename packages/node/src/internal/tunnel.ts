/**
 * Connections through proxies. The protocols of proxies are spoken by `node:http` and by `socks`.
 *
 * @since 0.1.0
 */
import { basicAuthorization, type Credentials } from "@effect-ws/core/protocol/BasicAuth"
import type { WebSocketUrl } from "@effect-ws/core/protocol/WebSocketUrl"
import {
  type ConnectError,
  HostNotFound,
  InvalidProxy,
  ProxyAuthenticationRequired,
  ProxyFailure,
  ProxyRefused,
  ProxyUnreachable
} from "@effect-ws/core/WebSocketError"
import * as Effect from "effect/Effect"
import * as Dns from "node:dns"
import * as Http from "node:http"
import * as Https from "node:https"
import * as Net from "node:net"
import type * as Tls from "node:tls"
import type { SocksClient } from "socks"
import type { Proxy } from "../NodeProxy.ts"
import { fromNode } from "./fromNode.ts"

/** How sockets are opened. */
export interface SocketOptions {
  readonly lookup?: Net.LookupFunction | undefined
  readonly family?: 4 | 6 | undefined
  readonly localAddress?: string | undefined
}

type Opening = Effect.Effect<Net.Socket, ConnectError["reason"]>

/**
 * Opens a socket that leads to the target through a proxy. `tls` is for the way to the proxy.
 *
 * **Details**
 *
 * When it fails or is interrupted, no socket is left. An error of the socket is not unhandled, whoever listens later.
 */
export const open = (
  proxy: Proxy,
  target: WebSocketUrl,
  options: SocketOptions,
  tls: Tls.ConnectionOptions
): Opening => {
  switch (proxy.protocol) {
    case "http":
    case "https":
      return connect(proxy, target, options, tls)
    case "socks5":
    case "socks5h":
      return Effect.gen(function*() {
        const host = proxy.protocol === "socks5" ? yield* resolve(target.host, options) : target.host
        // Loaded by those who use it.
        const { SocksClient } = yield* Effect.promise(() => import("socks"))
        return yield* socks(SocksClient, proxy, host, target.port, options)
      })
  }
}

/** The name for SNI, unless the options have one: addresses are not sent (RFC 6066, section 3). */
export const serverName = (host: string, { servername }: Tls.ConnectionOptions): string =>
  servername ?? (Net.isIP(host) === 0 ? host : "")

const ignore = () => {}

// RFC 9110 §9.3.6.
const connect = (proxy: Proxy, target: WebSocketUrl, options: SocketOptions, tls: Tls.ConnectionOptions): Opening =>
  fromNode((resume) => {
    const authorization = proxy.credentials && basicAuthorization(proxy.credentials)
    if (proxy.credentials !== undefined && authorization === undefined) {
      return resume(Effect.fail(new InvalidProxy({ detail: "HTTP cannot carry the user name or password" })))
    }
    const encrypts = proxy.protocol === "https"
    const authority = `${Net.isIPv6(target.host) ? `[${target.host}]` : target.host}:${target.port}`
    let isConnected = false
    const request = (encrypts ? Https : Http).request({
      ...options,
      ...(encrypts && { ...tls, servername: serverName(proxy.host, tls) }),
      host: proxy.host,
      port: proxy.port,
      method: "CONNECT",
      path: authority,
      headers: { host: authority, ...(authorization !== undefined && { "proxy-authorization": authorization }) },
      setHost: false,
      agent: false
    })
    request.on("socket", (socket) => socket.once(encrypts ? "secureConnect" : "connect", () => (isConnected = true)))
    request.on("error", (cause) => {
      const { name } = proxy
      resume(
        Effect.fail(
          isConnected
            ? new ProxyFailure({ proxy: name, detail: cause.message })
            : new ProxyUnreachable({ proxy: name, cause })
        )
      )
      request.destroy()
    })
    // Emitted for every response, whatever its status.
    request.on("connect", ({ statusCode: status = 0 }, socket: Net.Socket, head: Buffer) => {
      // After its handshake, a TLS socket stays open when a record is broken.
      socket.on("error", () => socket.destroy())
      if (status >= 200 && status < 300) {
        if (head.length > 0) socket.unshift(head)
        return resume(Effect.succeed(socket))
      }
      socket.destroy()
      resume(Effect.fail(
        // Some say 401 where credentials are wrong.
        status === 407 || status === 401
          ? new ProxyAuthenticationRequired({ proxy: proxy.name })
          : new ProxyRefused({ proxy: proxy.name, code: status, detail: `HTTP ${status}` })
      ))
    })
    request.end()
    return Effect.sync(() => request.destroy())
  })

const resolve = (host: string, options: SocketOptions): Effect.Effect<string, ConnectError["reason"]> =>
  Net.isIP(host) !== 0 ? Effect.succeed(host) : fromNode((resume) => {
    const lookup = options.lookup ?? Dns.lookup
    lookup(host, { family: options.family ?? 0, all: false }, (cause, found) => {
      const address = Array.isArray(found) ? found[0]?.address : found
      resume(cause || address === undefined ? Effect.fail(new HostNotFound({ host, cause })) : Effect.succeed(address))
    })
  })

// RFC 1928 and RFC 1929.
const socks = (
  Client: typeof SocksClient,
  proxy: Proxy,
  host: string,
  port: number,
  options: SocketOptions
): Opening =>
  fromNode((resume) => {
    const { credentials, name } = proxy
    if (credentials !== undefined && !fitsSocks(credentials)) {
      return resume(Effect.fail(new InvalidProxy({ detail: "SOCKS cannot carry the user name or password" })))
    }
    if (Buffer.byteLength(host) > 255) {
      const cause = new Error("SOCKS carries names of at most 255 bytes")
      return resume(Effect.fail(new HostNotFound({ host, cause })))
    }
    const socket = Net.connect({ ...options, host: proxy.host, port: proxy.port })
    const fail = (reason: ConnectError["reason"]) => {
      socket.destroy()
      resume(Effect.fail(reason))
    }
    let isConnected = false
    socket.on("error", (cause) =>
      fail(
        isConnected
          ? new ProxyFailure({ proxy: name, detail: cause.message })
          : new ProxyUnreachable({ proxy: name, cause })
      ))
    socket.once("connect", () => {
      isConnected = true
      try {
        negotiate()
      } catch {
        // What it says holds the credentials.
        fail(new ProxyFailure({ proxy: name, detail: "SOCKS cannot carry the request" }))
      }
    })
    const negotiate = () => {
      const client = new Client({
        command: "connect",
        proxy: {
          host: proxy.host,
          port: proxy.port,
          type: 5,
          ...(credentials && { userId: credentials.username, password: credentials.password })
        },
        destination: { host, port },
        timeout: 1
      })
      // It never clears its timer, which would hold on to the socket; how long connecting may take is not its to say.
      Object.assign(client, { onEstablishedTimeout: ignore })
      client.on("error", ({ message }) => fail(failureOf(name, message)))
      client.on("established", () => resume(Effect.succeed(socket)))
      client.connect(socket)
    }
    return Effect.sync(() => socket.destroy())
  })

// RFC 1929 §2: their lengths are single bytes.
const fitsSocks = ({ password, username }: Credentials): boolean =>
  Buffer.byteLength(username) <= 255 && Buffer.byteLength(password) <= 255

// RFC 1928 §6, in the words of `socks`, from code 1 on.
const replies: ReadonlyArray<readonly [name: string, detail: string]> = [
  ["Failure", "general failure"],
  ["NotAllowed", "the rules do not allow the connection"],
  ["NetworkUnreachable", "the network is unreachable"],
  ["HostUnreachable", "the host is unreachable"],
  ["ConnectionRefused", "nobody listens at the address"],
  ["TTLExpired", "the TTL has expired"],
  ["CommandNotSupported", "the command is not supported"],
  ["AddressNotSupported", "the type of address is not supported"]
]

const failureOf = (proxy: string, message: string): ConnectError["reason"] => {
  if (/no accepted authentication|unknown authentication|Authentication failed/.test(message)) {
    return new ProxyAuthenticationRequired({ proxy })
  }
  const [, reply] = message.split("proxy rejected connection - ")
  if (reply === undefined) return new ProxyFailure({ proxy, detail: message })
  const index = replies.findIndex(([name]) => name === reply)
  return index === -1
    ? new ProxyFailure({ proxy, detail: "the reply is not one of SOCKS 5" })
    : new ProxyRefused({ proxy, code: index + 1, detail: `SOCKS ${index + 1}: ${replies[index]![1]}` })
}
