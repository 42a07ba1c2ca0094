/**
 * Where a redirect leads a client (RFC 9110, section 15.4; RFC 6455, section 4.1).
 *
 * @since 0.1.0
 */
import type { Headers } from "./Handshake.ts"
import { parseUrl, type WebSocketUrl } from "./WebSocketUrl.ts"

/**
 * A redirect that may be followed. `isSameOrigin` tells whether it stays at the server that sent it: scheme, host and port.
 *
 * @category models
 * @since 0.1.0
 */
export interface Redirect {
  readonly _tag: "Redirect"
  readonly url: WebSocketUrl
  readonly isSameOrigin: boolean
}

/**
 * A redirect that must not be followed, and why.
 *
 * @category models
 * @since 0.1.0
 */
export interface InvalidRedirect {
  readonly _tag: "InvalidRedirect"
  readonly detail: string
}

// The opening request is a GET, and stays one with each of them.
const statuses = new Set([301, 302, 303, 307, 308])

const schemes: Readonly<Record<string, string>> = { "http:": "ws:", "https:": "wss:", "ws:": "ws:", "wss:": "wss:" }

const invalid = (detail: string): InvalidRedirect => ({ _tag: "InvalidRedirect", detail })

/**
 * Reads where a response redirects to; `undefined` if it is no redirect, or does not say where to.
 *
 * **Details**
 *
 * `Location` may be relative to the URL of the request. `http:` is taken for `ws:`, and `https:` for `wss:`. From `wss:`,
 * a redirect leads to `wss:` only. A fragment, and credentials, are not part of where it leads.
 *
 * **Gotchas**
 *
 * Behind a Unix socket is the origin of `localhost`, and a redirect within it stays at the socket. Nobody is redirected to
 * a Unix socket.
 *
 * @category decoding
 * @since 0.1.0
 */
export const redirectOf = (
  from: WebSocketUrl,
  { headers, status }: { readonly status: number; readonly headers: Headers }
): Redirect | InvalidRedirect | undefined => {
  const location: string | undefined = headers["location"]
  if (!statuses.has(status) || location === undefined) return undefined
  const parsed = URL.parse(location, `${from.secure ? "wss" : "ws"}://${from.hostHeader}${from.target}`)
  if (parsed === null) return invalid("Location is not a URL")
  const scheme = schemes[parsed.protocol]
  if (scheme === undefined) return invalid("Location is not the URL of a WebSocket")
  parsed.protocol = scheme
  parsed.username = ""
  parsed.password = ""
  const [href = ""] = parsed.href.split("#")
  const url = parseUrl(href)
  if (url._tag === "InvalidUrl") return invalid(`Location is not the URL of a WebSocket: ${url.detail}`)
  if (from.secure && !url.secure) return invalid("it leads from wss: to ws:")
  const isSameOrigin = url.secure === from.secure && url.hostHeader === from.hostHeader
  return { _tag: "Redirect", url: isSameOrigin ? { ...url, socketPath: from.socketPath } : url, isSameOrigin }
}
