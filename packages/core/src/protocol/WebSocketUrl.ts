/**
 * WebSocket URIs (RFC 6455, section 3) and the authority that a `Host` header carries (RFC 7230, section 5.4).
 *
 * @since 0.1.0
 */

/**
 * Where a WebSocket URL leads: what to connect to, and what to ask for there.
 *
 * **Details**
 *
 * - `socketPath`: the Unix socket to connect to, instead of `host` and `port`; `undefined` for a `ws:` or `wss:` URL.
 * - `host`: the host to connect to, an IPv6 address without its brackets; `localhost` where there is a `socketPath`.
 * - `hostHeader`: the value of `Host`, with the brackets, and with the port unless it is the scheme's default.
 * - `target`: path and query, the "resource name" of section 3; at least `/`.
 * - `hasCredentials`: the URL names a user or a password. The URI grammar of section 3 has no place for them and nothing
 *   here uses them; whether to refuse such a URL or to send them is the caller's decision.
 *
 * @category models
 * @since 0.1.0
 */
export interface WebSocketUrl {
  readonly _tag: "WebSocketUrl"
  readonly secure: boolean
  readonly socketPath: string | undefined
  readonly host: string
  readonly hostHeader: string
  readonly port: number
  readonly target: string
  readonly hasCredentials: boolean
}

/**
 * Why a string is not a WebSocket URL.
 *
 * **Details**
 *
 * `section` names the section of RFC 6455. `detail` does not repeat the URL, which may hold secrets.
 *
 * @category models
 * @since 0.1.0
 */
export interface InvalidUrl {
  readonly _tag: "InvalidUrl"
  readonly detail: string
  readonly section: string
}

// RFC 3986 §3.2: what host and port are made of (unreserved, sub-delims, "%", ":" and the brackets of an IP literal),
// and so without "/", "?", "#" and "@", at which an authority would end or begin.
const authorityCharacters = "-._~!$&'()*+,;=%:[]0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
const authorityCodes = new Uint8Array(128)
for (let i = 0; i < authorityCharacters.length; i++) authorityCodes[authorityCharacters.charCodeAt(i)] = 1

/**
 * Tells whether a string has the characters of `host [ ":" port ]`, the value of a `Host` header (RFC 7230, section 5.4).
 *
 * **Gotchas**
 *
 * An empty value, which HTTP allows, does not pass: a WebSocket URI always has a host (RFC 6455, section 3).
 *
 * @category guards
 * @since 0.1.0
 */
export const isAuthority = (s: string): boolean => {
  for (let i = 0; i < s.length; i++) {
    if (authorityCodes[s.charCodeAt(i)] !== 1) return false
  }
  return s.length > 0
}

const invalid = (detail: string): InvalidUrl => ({ _tag: "InvalidUrl", detail, section: "3" })

/**
 * Reads a `ws:` or `wss:` URL (RFC 6455, section 3), or one that leads to a Unix socket.
 *
 * **Details**
 *
 * `ws+unix:/run/app.sock:/path?query` asks for `/path?query` at the socket `/run/app.sock`; `wss+unix:` does the same
 * over TLS. Without `:/path`, the path is `/`. Two slashes may stand before the socket's path. In it, percent-encoding
 * is undone: `%3A` stands for a colon, `%3F` for a question mark, `%25` for a percent sign.
 *
 * **Gotchas**
 *
 * The WHATWG parser does the reading. It repairs before it judges: it drops tabs and line breaks, takes `\` for `/`,
 * lower-cases the host and encodes a name that is not ASCII. The path of a Unix socket is left as it is.
 *
 * @category decoding
 * @since 0.1.0
 */
export const parseUrl = (url: string): WebSocketUrl | InvalidUrl => {
  const parsed = URL.parse(url)
  if (parsed === null) return invalid("not an absolute URL")
  switch (parsed.protocol) {
    case "ws:":
    case "wss:":
      return read(parsed, undefined)
    case "ws+unix:":
    case "wss+unix:":
      return readUnix(url, parsed.protocol === "wss+unix:")
    default:
      return invalid("the scheme is none of ws, wss, ws+unix and wss+unix")
  }
}

const read = (parsed: URL, socketPath: string | undefined): WebSocketUrl | InvalidUrl => {
  const secure = parsed.protocol === "wss:"
  // §3: fragments "MUST NOT be used". `hash` is empty for a bare "#" at the end; `href` still shows it, and a "#" that
  // starts no fragment is escaped in it.
  if (parsed.href.includes("#")) return invalid("the URL has a fragment")
  // §3: the host is that of RFC 3986. The parser lets more through, such as "{" and "`", which no Host header may hold.
  if (!isAuthority(parsed.host)) return invalid("the host is malformed")
  const { hostname } = parsed
  return {
    _tag: "WebSocketUrl",
    secure,
    socketPath,
    host: hostname.startsWith("[") ? hostname.slice(1, -1) : hostname,
    hostHeader: parsed.host,
    // §3: the default is 80 for ws and 443 for wss; the parser leaves a default port out.
    port: parsed.port === "" ? (secure ? 443 : 80) : Number(parsed.port),
    target: parsed.pathname + parsed.search,
    hasCredentials: parsed.username !== "" || parsed.password !== ""
  }
}

// Taken apart before anything is normalized: ".." in the path that is asked for must not reach into the socket's.
const readUnix = (url: string, secure: boolean): WebSocketUrl | InvalidUrl => {
  const afterScheme = url.slice(url.indexOf(":") + 1)
  if (afterScheme.startsWith("//") && afterScheme[2] !== "/") return invalid("the URL of a Unix socket has a host")
  const path = afterScheme.startsWith("//") ? afterScheme.slice(2) : afterScheme
  const end = path.search(/[:?#]/)
  const [encoded, rest] = end === -1 ? [path, ""] : [path.slice(0, end), path.slice(end)]
  const socketPath = decodePath(encoded)
  if (socketPath === undefined) return invalid("the path of the Unix socket is malformed")
  const target = rest.startsWith(":") ? rest.slice(1) : rest
  if (target !== "" && !/^[/?#]/.test(target)) return invalid("what follows the Unix socket is not a path")
  const parsed = URL.parse(`${secure ? "wss" : "ws"}://localhost${target}`)
  return parsed === null ? invalid("what follows the Unix socket is not a path") : read(parsed, socketPath)
}

/**
 * The URL of a Unix socket, which `parseUrl` reads.
 *
 * @category encoding
 * @since 0.1.0
 */
export const unixUrl = (socketPath: string, secure: boolean): string => {
  const slashes = socketPath.startsWith("/") ? "//" : ""
  return `${secure ? "wss" : "ws"}+unix:${slashes}${socketPath.split("/").map(encodeURIComponent).join("/")}`
}

const decodePath = (encoded: string): string | undefined => {
  try {
    return decodeURIComponent(encoded) || undefined
  } catch {
    return undefined
  }
}
