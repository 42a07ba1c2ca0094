/**
 * The opening handshake (RFC 6455, section 4): building and checking the request and the response. Reading HTTP from the
 * wire is done elsewhere; these functions work on heads that are already parsed.
 *
 * @since 0.1.0
 */
import * as Base64 from "effect/encoding/Base64"
import {
  equalsIgnoreCase,
  type Extension,
  formatExtensions,
  isToken,
  parseExtensions,
  parseTokens
} from "./ExtensionHeader.ts"
import { isAuthority } from "./WebSocketUrl.ts"

/**
 * The headers of a request or response, by lower-case name; lines of the same name are joined with `, `.
 *
 * @category models
 * @since 0.1.0
 */
export type Headers = Readonly<Record<string, string>>

/**
 * The headers of a response to be sent: an array of values is as many lines, such as those of `Set-Cookie`, which cannot be
 * joined.
 *
 * @category models
 * @since 0.1.0
 */
export type ResponseHeaders = Readonly<Record<string, string | ReadonlyArray<string>>>

/**
 * The SHA-1 digest of ASCII text, in base64, which the platform supplies.
 *
 * @category models
 * @since 0.1.0
 */
export type Sha1 = (text: string) => string

/**
 * Why a handshake fails. `section` names the section of RFC 6455.
 *
 * @category models
 * @since 0.1.0
 */
export interface HandshakeFailure {
  readonly _tag: "HandshakeFailure"
  readonly detail: string
  readonly section: string
}

/**
 * Why a server refuses an opening request, with the status and the headers of the answer.
 *
 * **Details**
 *
 * `detail` holds nothing that the client sent, so it can serve as the body.
 *
 * @category models
 * @since 0.1.0
 */
export interface RequestFailure extends HandshakeFailure {
  readonly status: number
  readonly headers: Headers
}

/**
 * An opening request that keeps the rules: its key, and what the client offers, in its order of preference.
 *
 * @category models
 * @since 0.1.0
 */
export interface AcceptedRequest {
  readonly _tag: "Accepted"
  readonly key: string
  readonly subprotocols: ReadonlyArray<string>
  readonly extensions: ReadonlyArray<Extension>
}

/**
 * An opening response that keeps the rules: what the server chose from the offer.
 *
 * @category models
 * @since 0.1.0
 */
export interface AcceptedResponse {
  readonly _tag: "Accepted"
  readonly subprotocol: string | undefined
  readonly extensions: ReadonlyArray<Extension>
}

const failure = (section: string, detail: string): HandshakeFailure => ({ _tag: "HandshakeFailure", detail, section })

/**
 * Writes a nonce of 16 random bytes as the value of `Sec-WebSocket-Key` (RFC 6455, section 4.1, item 7).
 *
 * @category encoding
 * @since 0.1.0
 */
export const encodeKey = (nonce: Uint8Array): string => Base64.encode(nonce)

/**
 * Derives the value of `Sec-WebSocket-Accept` from that of `Sec-WebSocket-Key` (RFC 6455, sections 1.3 and 4.2.2).
 *
 * @category encoding
 * @since 0.1.0
 */
export const acceptFor = (key: string, sha1: Sha1): string => sha1(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)

// RFC 7230 §3.2.4: white space around a value is not part of it. `trim` would take more than SP and HTAB.
const isBlank = (code: number): boolean => code === 0x20 || code === 0x09
const strip = (s: string): string => {
  let start = 0
  let end = s.length
  while (start < end && isBlank(s.charCodeAt(start))) start++
  while (end > start && isBlank(s.charCodeAt(end - 1))) end--
  return s.slice(start, end)
}

const get = (headers: Headers, name: string): string | undefined => {
  const value: string | undefined = headers[name]
  return value === undefined ? undefined : strip(value)
}

// For `Upgrade` and `Connection`, whose elements hold neither quotes nor commas (RFC 7230 §6.1, §6.7).
const listHas = (list: string | undefined, element: string): boolean =>
  list !== undefined && list.split(",").some((item) => equalsIgnoreCase(strip(item), element))

// What the handshake speaks for itself: all of its own headers, and the framing of a body, which neither the GET nor the
// 101 has (RFC 7230 §3.3.1, §3.3.2): the bytes that follow are frames.
const framing = ["content-length", "transfer-encoding"]
const owned = new Set(["host", "upgrade", "connection", ...framing])
const isOwned = (name: string): boolean => owned.has(name) || name.startsWith("sec-websocket-")

const withHeaders = <V>(
  own: ReadonlyArray<readonly [string, string]>,
  extra: Readonly<Record<string, V>> | undefined
): Readonly<Record<string, string | V>> => {
  if (extra === undefined) return Object.fromEntries(own)
  const added = Object.entries(extra).map(([name, value]) => [name.toLowerCase(), value] as const)
  return Object.fromEntries([...own, ...added.filter(([name]) => !isOwned(name))])
}

const extensionsHeader = (extensions: ReadonlyArray<Extension> | undefined): ReadonlyArray<readonly [string, string]> =>
  // §9.1: the list has at least one element, so an empty one has no header.
  extensions === undefined || extensions.length === 0
    ? []
    : [["sec-websocket-extensions", formatExtensions(extensions)]]

/**
 * The headers of the opening request (RFC 6455, section 4.1).
 *
 * **Details**
 *
 * `host` is the value of `Host`, `subprotocols` and `extensions` the offer in order of preference; an empty offer has no
 * header. `headers` are added under their lower-case names.
 *
 * **Gotchas**
 *
 * Among `headers`, those that the handshake owns are left out: `Host`, `Upgrade`, `Connection`, everything that begins with
 * `Sec-WebSocket-`, and `Content-Length` and `Transfer-Encoding`, since the request has no body. The subprotocols are
 * written as they are; {@link checkSubprotocols} tells whether they may be offered.
 *
 * @category constructors
 * @since 0.1.0
 */
export const requestHeaders = (options: {
  readonly key: string
  readonly host: string
  readonly subprotocols: ReadonlyArray<string>
  readonly extensions?: ReadonlyArray<Extension> | undefined
  readonly headers?: Headers | undefined
}): Headers =>
  withHeaders([
    ["host", options.host],
    ["upgrade", "websocket"],
    ["connection", "Upgrade"],
    ["sec-websocket-key", options.key],
    ["sec-websocket-version", "13"],
    ...(options.subprotocols.length === 0
      ? []
      : [["sec-websocket-protocol", options.subprotocols.join(", ")] as const]),
    ...extensionsHeader(options.extensions)
  ], options.headers)

/**
 * The headers of the 101 response that accepts an opening request (RFC 6455, section 4.2.2, item 5).
 *
 * **Details**
 *
 * `key` is the key of the request, `subprotocol` and `extensions` what the server chose from the offer. `headers` are added
 * under their lower-case names.
 *
 * **Gotchas**
 *
 * The headers that the handshake owns cannot be replaced, as in {@link requestHeaders}.
 *
 * @category constructors
 * @since 0.1.0
 */
export const responseHeaders = (options: {
  readonly key: string
  readonly sha1: Sha1
  readonly subprotocol?: string | undefined
  readonly extensions?: ReadonlyArray<Extension> | undefined
  readonly headers?: ResponseHeaders | undefined
}): ResponseHeaders =>
  withHeaders([
    ["upgrade", "websocket"],
    ["connection", "Upgrade"],
    ["sec-websocket-accept", acceptFor(options.key, options.sha1)],
    ...(options.subprotocol === undefined ? [] : [["sec-websocket-protocol", options.subprotocol] as const]),
    ...extensionsHeader(options.extensions)
  ], options.headers)

/**
 * Tells what is wrong with a list of subprotocols that is to be offered, if anything (RFC 6455, section 4.1, item 10): each
 * is a token, and none comes twice.
 *
 * @category guards
 * @since 0.1.0
 */
export const checkSubprotocols = (subprotocols: ReadonlyArray<string>): HandshakeFailure | undefined => {
  if (!subprotocols.every(isToken)) return failure("4.1", "a subprotocol is not a token")
  if (new Set(subprotocols).size !== subprotocols.length) return failure("4.1", "a subprotocol is offered twice")
  return undefined
}

/**
 * The headers of a response that refuses an opening request, under their lower-case names.
 *
 * **Gotchas**
 *
 * `Content-Length` and `Transfer-Encoding` are left out: whoever writes the body frames it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const refusalHeaders = (headers: ResponseHeaders): ResponseHeaders =>
  Object.fromEntries(
    Object.entries(headers)
      .map(([name, value]) => [name.toLowerCase(), value] as const)
      .filter(([name]) => !framing.includes(name))
  )

// RFC 7230 §3.2: visible characters, SP, HTAB and obs-text. A line break would begin another header.
const isFieldValue = (value: string): boolean => {
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i)
    if ((code < 0x20 && code !== 0x09) || code === 0x7f || code > 0xff) return false
  }
  return true
}

/**
 * Finds a header that HTTP does not allow (RFC 7230, section 3.2): its name is not a token, or its value has a control
 * character, or one beyond Latin-1.
 *
 * @category guards
 * @since 0.1.0
 */
export const invalidHeader = (headers: ResponseHeaders): string | undefined =>
  Object.entries(headers).find(([name, value]) => !isToken(name) || ![value].flat().every(isFieldValue))?.[0]

/**
 * The headers of a request or response from its lines, names and values in turns.
 *
 * **Details**
 *
 * A name such as `__proto__` is one like any other.
 *
 * @category conversions
 * @since 0.1.0
 */
export const headersOf = (rawHeaders: ReadonlyArray<string>): Headers => {
  const headers = new Map<string, string>()
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!.toLowerCase()
    const value = rawHeaders[i + 1]!
    const before = headers.get(name)
    headers.set(name, before === undefined ? shared(name, value) : `${before}, ${value}`)
  }
  return Object.fromEntries(headers)
}

// The latest values of headers that most clients of a server send alike. None of them may be a secret of one client, as a
// subprotocol may.
const latest = new Map<string, string>([
  "accept-encoding",
  "accept-language",
  "cache-control",
  "connection",
  "host",
  "origin",
  "pragma",
  "sec-websocket-extensions",
  "sec-websocket-version",
  "upgrade",
  "user-agent"
].map((name) => [name, ""]))

// Connections keep the headers of their request. So of equal values there should be one, not one for each of them.
const shared = (name: string, value: string): string => {
  const before = latest.get(name)
  if (before === undefined || before === value) return before ?? value
  latest.set(name, value)
  return value
}

/**
 * The headers of a response as its receiver sees them.
 *
 * @category conversions
 * @since 0.1.0
 */
export const joinHeaders = (headers: ResponseHeaders): Headers =>
  isJoined(headers)
    ? headers
    : Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, [value].flat().join(", ")]))

const isJoined = (headers: ResponseHeaders): headers is Headers => {
  for (const name in headers) if (typeof headers[name] !== "string") return false
  return true
}

/**
 * Chooses the subprotocol: the first in the server's order of preference that the client offers (RFC 6455, section 4.2.2,
 * item 4). `undefined` when they have none in common.
 *
 * @category combinators
 * @since 0.1.0
 */
export const selectSubprotocol = (
  serverPreference: ReadonlyArray<string>,
  offered: ReadonlyArray<string>
): string | undefined => serverPreference.find((subprotocol) => offered.includes(subprotocol))

const refuse = (status: number, section: string, detail: string, headers: Headers = {}): RequestFailure => ({
  _tag: "HandshakeFailure",
  status,
  headers,
  detail,
  section
})

// RFC 7231 §6.5.15: a 426 has to name the protocol in `Upgrade`, and `Upgrade` has to be named in `Connection`
// (RFC 7230 §6.7).
const upgradeRequired = (section: string, detail: string, headers?: Headers): RequestFailure =>
  refuse(426, section, detail, { upgrade: "websocket", connection: "Upgrade", ...headers })

const isHttp11 = (version: string): boolean => {
  const dot = version.indexOf(".")
  const major = Number(dot === -1 ? version : version.slice(0, dot))
  const minor = dot === -1 ? 0 : Number(version.slice(dot + 1))
  return major > 1 || (major === 1 && minor >= 1)
}

const base64Characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

// 16 bytes are 22 characters of base64 and "==". The four bits that the last character has left over may be anything:
// they still decode to 16 bytes, and §4.2.1 item 5 does not ask the server to decode at all.
const isKey = (key: string): boolean => {
  if (key.length !== 24 || !key.endsWith("==")) return false
  for (let i = 0; i < 22; i++) {
    if (!base64Characters.includes(key.charAt(i))) return false
  }
  return true
}

const countHeader = (rawHeaders: ReadonlyArray<string>, name: string): number => {
  let count = 0
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (equalsIgnoreCase(rawHeaders[i], name)) count++
  }
  return count
}

/**
 * Checks an opening request (RFC 6455, section 4.2.1), and says how to refuse it when it breaks a rule.
 *
 * **Details**
 *
 * `rawHeaders` is the list of names and values as they came, in turns. It shows what `headers` may hide: how many lines
 * there are, and a second `Host`. `maxHeaders` limits the lines, counted in `rawHeaders` or else in `headers`.
 *
 * | the request | the answer |
 * | --- | --- |
 * | has more than `maxHeaders` headers | 431 |
 * | is not a GET | 405, `Allow: GET` |
 * | is older than HTTP/1.1 | 426, `Upgrade: websocket` |
 * | has no `Host`, a malformed one, or two | 400 |
 * | has no `Upgrade: websocket` | 426, `Upgrade: websocket` |
 * | has no `Connection: upgrade` | 400 |
 * | has another version than 13, or none | 426, `Sec-WebSocket-Version: 13` |
 * | has no key, a malformed one, or two | 400 |
 * | has a malformed list of subprotocols, or one of them twice | 400 |
 * | has a malformed list of extensions | 400 |
 * | has a body | 400 |
 *
 * **Gotchas**
 *
 * The origin is not checked here; see `isOriginAllowed` in `Origin.ts`. The extended CONNECT of HTTP/2 (RFC 8441) has
 * other rules and does not pass.
 *
 * @category decoding
 * @since 0.1.0
 */
export const checkRequest = (
  request: {
    readonly method: string
    readonly httpVersion: string
    readonly headers: Headers
    readonly rawHeaders?: ReadonlyArray<string> | undefined
  },
  options?: { readonly maxHeaders?: number | undefined }
): AcceptedRequest | RequestFailure => {
  const { headers, rawHeaders } = request
  // RFC 6585 §5. First, so that nothing else looks at more headers than allowed.
  const count = rawHeaders === undefined ? Object.keys(headers).length : rawHeaders.length / 2
  if (count > (options?.maxHeaders ?? Infinity)) return refuse(431, "10.4", "too many headers")

  // §4.2.1 item 1: "An HTTP/1.1 or higher GET request". RFC 7231 §6.5.5: a 405 names the methods that are allowed.
  if (request.method !== "GET") return refuse(405, "4.2.1", "the method is not GET", { allow: "GET" })
  // RFC 7230 §6.7: "A server MUST ignore an Upgrade header field that is received in an HTTP/1.0 request". Without it, the
  // request is plain HTTP, which 426 answers below; 400 would blame it for being malformed, and it is not.
  if (!isHttp11(request.httpVersion)) return upgradeRequired("4.2.1", "HTTP is older than 1.1")

  // §4.2.1 item 2; RFC 7230 §5.4 asks for 400 when Host is missing, repeated or malformed.
  const host = get(headers, "host")
  if (host === undefined) return refuse(400, "4.2.1", "Host is missing")
  if (!isAuthority(host)) return refuse(400, "4.2.1", "Host is malformed")
  if (rawHeaders !== undefined && countHeader(rawHeaders, "host") > 1) {
    return refuse(400, "4.2.1", "Host is repeated")
  }

  // §4.2.1 item 3. The value is a list of what the client can speak, in any case (RFC 7230 §6.7).
  if (!listHas(get(headers, "upgrade"), "websocket")) {
    return upgradeRequired("4.2.1", "Upgrade does not name websocket")
  }
  // §4.2.1 item 4. Upgrade is there, so this is a handshake, and a broken one: "such as 400 Bad Request".
  if (!listHas(get(headers, "connection"), "upgrade")) {
    return refuse(400, "4.2.1", "Connection does not name Upgrade")
  }

  // §4.2.2 item 4 and §4.4: the answer names the version spoken. Before the key, so that a client of an old draft, which
  // has no such key, learns the version.
  if (get(headers, "sec-websocket-version") !== "13") {
    return upgradeRequired("4.4", "Sec-WebSocket-Version is not 13", { "sec-websocket-version": "13" })
  }

  // §4.2.1 item 5; §11.3.1: not more than once. A repeated key is joined, and so too long.
  const key = get(headers, "sec-websocket-key")
  if (key === undefined) return refuse(400, "4.2.1", "Sec-WebSocket-Key is missing")
  if (!isKey(key)) return refuse(400, "4.2.1", "Sec-WebSocket-Key is not the base64 of 16 bytes")

  // §4.2.1 item 8, with the rules of §4.1 item 10.
  const protocolHeader = get(headers, "sec-websocket-protocol")
  const subprotocols = protocolHeader === undefined ? [] : parseTokens(protocolHeader)
  if (subprotocols === undefined) return refuse(400, "4.1", "Sec-WebSocket-Protocol is malformed")
  const fault = checkSubprotocols(subprotocols)
  if (fault !== undefined) return refuse(400, fault.section, fault.detail)

  // §4.2.1 item 9; §9.1: a header that breaks the grammar fails the connection.
  const extensionHeader = get(headers, "sec-websocket-extensions")
  const extensions = extensionHeader === undefined ? [] : parseExtensions(extensionHeader)
  if (extensions === undefined) return refuse(400, "9.1", "Sec-WebSocket-Extensions is malformed")

  // RFC 7230 §3.3 tells a body by these headers. Here it would be taken for frames, and by somebody else perhaps not.
  const length = get(headers, "content-length")
  if ((length !== undefined && length !== "0") || get(headers, "transfer-encoding") !== undefined) {
    return refuse(400, "4.1", "the request has a body")
  }

  return { _tag: "Accepted", key, subprotocols, extensions }
}

/**
 * Checks the response to an opening request (RFC 6455, the list at the end of section 4.1).
 *
 * **Details**
 *
 * `expected` is what the request said: its key, its subprotocols, and the names of the extensions that it offered.
 *
 * **Gotchas**
 *
 * A server that chooses none of the subprotocols keeps the rules (section 4.2.2), and `subprotocol` is `undefined`; a
 * client that cannot go on without one closes the connection. Whether the parameters of an extension answer the offer is
 * for the extension to check.
 *
 * @category decoding
 * @since 0.1.0
 */
export const checkResponse = (
  response: { readonly status: number; readonly headers: Headers },
  expected: {
    readonly key: string
    readonly sha1: Sha1
    readonly subprotocols: ReadonlyArray<string>
    readonly extensions: ReadonlyArray<string>
  }
): AcceptedResponse | HandshakeFailure => {
  const { headers, status } = response
  // §4.1, response item 1. Any other status is plain HTTP: a redirect, a demand for credentials, a refusal.
  if (status !== 101) return failure("4.1", `the status is ${status}, not 101`)

  // Item 2: the value itself is "websocket". Unlike the offer in a request, the answer names one protocol.
  const upgrade = get(headers, "upgrade")
  if (upgrade === undefined) return failure("4.1", "Upgrade is missing")
  if (!equalsIgnoreCase(upgrade, "websocket")) return failure("4.1", "Upgrade is not websocket")

  // Item 3: the value contains the token "Upgrade".
  const connection = get(headers, "connection")
  if (connection === undefined) return failure("4.1", "Connection is missing")
  if (!listHas(connection, "upgrade")) return failure("4.1", "Connection does not name Upgrade")

  // Item 4. Base64 is case-sensitive, and so is the comparison.
  const accept = get(headers, "sec-websocket-accept")
  if (accept === undefined) return failure("4.1", "Sec-WebSocket-Accept is missing")
  if (accept !== acceptFor(expected.key, expected.sha1)) {
    return failure("4.1", "Sec-WebSocket-Accept does not match the key")
  }

  // Item 5, and §9.1 for the grammar.
  const extensionHeader = get(headers, "sec-websocket-extensions")
  const extensions = extensionHeader === undefined ? [] : parseExtensions(extensionHeader)
  if (extensions === undefined) return failure("9.1", "Sec-WebSocket-Extensions is malformed")
  if (!extensions.every(({ name }) => expected.extensions.includes(name))) {
    return failure("4.1", "Sec-WebSocket-Extensions names an extension that was not offered")
  }

  // Item 6. In a response the value is one token, not a list (§4.3), and empty is not the same as absent (§4.2.2 item 5).
  const subprotocol = get(headers, "sec-websocket-protocol")
  if (subprotocol !== undefined) {
    if (!isToken(subprotocol)) return failure("4.3", "Sec-WebSocket-Protocol is not one token")
    if (!expected.subprotocols.includes(subprotocol)) {
      return failure("4.1", "Sec-WebSocket-Protocol names a subprotocol that was not offered")
    }
  }

  return { _tag: "Accepted", subprotocol, extensions }
}
