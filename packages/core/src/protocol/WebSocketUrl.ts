/**
 * WebSocket URIs (RFC 6455, section 3) and the authority that a `Host` header carries (RFC 7230, section 5.4).
 *
 * @since 0.1.0
 */

/**
 * Where a `ws:` or `wss:` URL leads: what to connect to, and what to ask for there.
 *
 * **Details**
 *
 * - `host`: the host to connect to, an IPv6 address without its brackets.
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
 * Reads a `ws:` or `wss:` URL (RFC 6455, section 3).
 *
 * **Gotchas**
 *
 * The WHATWG parser does the reading. It repairs before it judges: it drops tabs and line breaks, takes `\` for `/`,
 * lower-cases the host and encodes a name that is not ASCII.
 *
 * @category decoding
 * @since 0.1.0
 */
export const parseUrl = (url: string): WebSocketUrl | InvalidUrl => {
  const parsed = URL.parse(url)
  if (parsed === null) return invalid("not an absolute URL")
  const secure = parsed.protocol === "wss:"
  if (!secure && parsed.protocol !== "ws:") return invalid("the scheme is neither ws nor wss")
  // §3: fragments "MUST NOT be used". `hash` is empty for a bare "#" at the end; `href` still shows it, and a "#" that
  // starts no fragment is escaped in it.
  if (parsed.href.includes("#")) return invalid("the URL has a fragment")
  // §3: the host is that of RFC 3986. The parser lets more through, such as "{" and "`", which no Host header may hold.
  if (!isAuthority(parsed.host)) return invalid("the host is malformed")
  const { hostname } = parsed
  return {
    _tag: "WebSocketUrl",
    secure,
    host: hostname.startsWith("[") ? hostname.slice(1, -1) : hostname,
    hostHeader: parsed.host,
    // §3: the default is 80 for ws and 443 for wss; the parser leaves a default port out.
    port: parsed.port === "" ? (secure ? 443 : 80) : Number(parsed.port),
    target: parsed.pathname + parsed.search,
    hasCredentials: parsed.username !== "" || parsed.password !== ""
  }
}
