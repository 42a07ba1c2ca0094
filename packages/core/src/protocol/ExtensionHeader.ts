/**
 * The grammars of `Sec-WebSocket-Extensions` and `Sec-WebSocket-Protocol` (RFC 6455, sections 9.1, 4.1 and 4.3), read by
 * tokenisers that look at each character once.
 *
 * @since 0.1.0
 */

/**
 * One element of `Sec-WebSocket-Extensions`: the name of an extension and its parameters, in the order of the header.
 *
 * **Details**
 *
 * A parameter without a value, such as `client_no_context_takeover`, has the value `undefined`.
 *
 * **Gotchas**
 *
 * The grammar allows a parameter to come twice; what that means is for the extension to say (for permessage-deflate,
 * RFC 7692, section 7.1, it declines the offer).
 *
 * @category models
 * @since 0.1.0
 */
export interface Extension {
  readonly name: string
  readonly parameters: ReadonlyArray<readonly [name: string, value: string | undefined]>
}

const TAB = 0x09
const SPACE = 0x20
const QUOTE = 0x22
const COMMA = 0x2c
const SEMICOLON = 0x3b
const EQUALS = 0x3d
const BACKSLASH = 0x5c

// RFC 7230 §3.2.6 tchar. RFC 2616 §2.2, which RFC 6455 cites, says the same by exclusion.
const tokenCharacters = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
const tokenCodes = new Uint8Array(128)
for (let i = 0; i < tokenCharacters.length; i++) tokenCodes[tokenCharacters.charCodeAt(i)] = 1

// Beyond either end the answer is `false`: `charCodeAt` gives NaN past the text, the table `undefined` past ASCII.
const isTokenCode = (code: number): boolean => tokenCodes[code] === 1

/**
 * Tells whether a string is a token (RFC 7230, section 3.2.6): not empty, and free of separators, spaces and controls.
 *
 * @category guards
 * @since 0.1.0
 */
export const isToken = (s: string): boolean => {
  for (let i = 0; i < s.length; i++) {
    if (!isTokenCode(s.charCodeAt(i))) return false
  }
  return s.length > 0
}

const lowerCode = (code: number): number => code >= 0x41 && code <= 0x5a ? code + 0x20 : code

/**
 * Tells whether two strings are equal when the letters A to Z match a to z, the "ASCII case-insensitive" of RFC 6455,
 * section 2.1.
 *
 * **Gotchas**
 *
 * `toLowerCase` is a different comparison: it takes the Kelvin sign for a `k`.
 *
 * @category guards
 * @since 0.1.0
 */
export const equalsIgnoreCase = (a: string, b: string): boolean => {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) {
    if (lowerCode(a.charCodeAt(i)) !== lowerCode(b.charCodeAt(i))) return false
  }
  return true
}

interface Cursor {
  readonly text: string
  at: number
}

const skipWhitespace = (cursor: Cursor): void => {
  for (;;) {
    const code = cursor.text.charCodeAt(cursor.at)
    if (code !== SPACE && code !== TAB) return
    cursor.at++
  }
}

const take = (cursor: Cursor, code: number): boolean => {
  if (cursor.text.charCodeAt(cursor.at) !== code) return false
  cursor.at++
  return true
}

const readToken = (cursor: Cursor): string | undefined => {
  const start = cursor.at
  while (isTokenCode(cursor.text.charCodeAt(cursor.at))) cursor.at++
  return cursor.at === start ? undefined : cursor.text.slice(start, cursor.at)
}

// §9.1: "the value after quoted-string unescaping MUST conform to the 'token' ABNF". So whatever else a quoted-string
// may hold (RFC 7230 §3.2.6) is refused where it stands, and the empty one too.
const readQuotedToken = (cursor: Cursor): string | undefined => {
  if (!take(cursor, QUOTE)) return undefined
  let value = ""
  for (;;) {
    const start = cursor.at
    while (isTokenCode(cursor.text.charCodeAt(cursor.at))) cursor.at++
    value += cursor.text.slice(start, cursor.at)
    if (take(cursor, QUOTE)) return value === "" ? undefined : value
    if (!take(cursor, BACKSLASH)) return undefined
    const escaped = cursor.text.charCodeAt(cursor.at)
    if (!isTokenCode(escaped)) return undefined
    value += String.fromCharCode(escaped)
    cursor.at++
  }
}

// RFC 7230 §7: a recipient ignores empty list elements, and `1#` still asks for one that is not empty.
const readList = <A>(
  text: string,
  readElement: (cursor: Cursor) => A | undefined
): ReadonlyArray<A> | undefined => {
  const cursor: Cursor = { text, at: 0 }
  const elements: Array<A> = []
  for (;;) {
    skipWhitespace(cursor)
    if (cursor.at === text.length) return elements.length === 0 ? undefined : elements
    if (take(cursor, COMMA)) continue
    const element = readElement(cursor)
    if (element === undefined) return undefined
    elements.push(element)
    skipWhitespace(cursor)
    if (cursor.at < text.length && !take(cursor, COMMA)) return undefined
  }
}

// extension = extension-token *( ";" extension-param ); extension-param = token [ "=" (token | quoted-string) ]
// White space may stand around ";" and "=" because §9.1 keeps RFC 2616's "implied *LWS rule".
const readExtension = (cursor: Cursor): Extension | undefined => {
  const name = readToken(cursor)
  if (name === undefined) return undefined
  const parameters: Array<readonly [name: string, value: string | undefined]> = []
  for (;;) {
    skipWhitespace(cursor)
    if (!take(cursor, SEMICOLON)) return { name, parameters }
    skipWhitespace(cursor)
    const parameter = readToken(cursor)
    if (parameter === undefined) return undefined
    skipWhitespace(cursor)
    if (take(cursor, EQUALS)) {
      skipWhitespace(cursor)
      const value = cursor.text.charCodeAt(cursor.at) === QUOTE ? readQuotedToken(cursor) : readToken(cursor)
      if (value === undefined) return undefined
      parameters.push([parameter, value])
    } else {
      parameters.push([parameter, undefined])
    }
  }
}

/**
 * Reads a `Sec-WebSocket-Extensions` header (RFC 6455, section 9.1); `undefined` when it is malformed.
 *
 * **Details**
 *
 * A header that came in several lines is read after joining them with commas, which is how the RFC reads it. The order of
 * the elements is kept: it is the order of preference. An extension may be offered several times with different
 * parameters.
 *
 * @see {@link formatExtensions} for the way back
 * @category decoding
 * @since 0.1.0
 */
export const parseExtensions = (header: string): ReadonlyArray<Extension> | undefined => readList(header, readExtension)

/**
 * Writes a `Sec-WebSocket-Extensions` header (RFC 6455, section 9.1).
 *
 * **Gotchas**
 *
 * Names and values are written as they are, unquoted: section 9.1 allows tokens only, and a token needs no quotes. An
 * empty list has no header, so leave the header out instead of sending the empty string.
 *
 * @see {@link parseExtensions} for the way back
 * @category encoding
 * @since 0.1.0
 */
export const formatExtensions = (extensions: ReadonlyArray<Extension>): string =>
  extensions.map(({ name, parameters }) =>
    name + parameters.map(([key, value]) => value === undefined ? `; ${key}` : `; ${key}=${value}`).join("")
  ).join(", ")

/**
 * Reads a list of tokens, the grammar of `Sec-WebSocket-Protocol` in a request (`1#token`, RFC 6455, section 4.3);
 * `undefined` when it is malformed.
 *
 * **Gotchas**
 *
 * Duplicates are kept. That the elements are unique (section 4.1) is a rule of the handshake, not of the grammar.
 *
 * @category decoding
 * @since 0.1.0
 */
export const parseTokens = (header: string): ReadonlyArray<string> | undefined => readList(header, readToken)
