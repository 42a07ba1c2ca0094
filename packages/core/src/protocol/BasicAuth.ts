/**
 * User names and passwords in URLs, and how HTTP carries them (RFC 7617).
 *
 * @since 0.1.0
 */
import * as Base64 from "effect/encoding/Base64"

/**
 * A user name and a password; each may be empty.
 *
 * @category models
 * @since 0.1.0
 */
export interface Credentials {
  readonly username: string
  readonly password: string
}

/**
 * The credentials that a URL names (RFC 3986, section 3.2.1), with percent-encoding undone; `undefined` if that is malformed.
 *
 * @category decoding
 * @since 0.1.0
 */
export const credentialsOf = ({ password, username }: URL): Credentials | undefined => {
  try {
    return { username: decodeURIComponent(username), password: decodeURIComponent(password) }
  } catch {
    return undefined
  }
}

/**
 * A URL without the credentials that it names, to be shown in errors. What is no URL loses whatever might be some.
 *
 * @category conversions
 * @since 0.1.0
 */
export const withoutCredentials = (url: string): string => {
  const parsed = URL.parse(url)
  // A "#" or a "/" in a password, which ought to be percent-encoded, ends it.
  if (parsed === null) return url.includes("@") ? `${schemeOf(url)}${url.slice(url.lastIndexOf("@") + 1)}` : url
  if (parsed.username === "" && parsed.password === "" && !parsed.hash.includes("@")) return url
  parsed.username = ""
  parsed.password = ""
  if (parsed.hash.includes("@")) parsed.hash = ""
  return parsed.href
}

const schemeOf = (url: string): string => /^[\w+.-]*:\/{0,2}/.exec(url)?.[0] ?? ""

const encoder = new TextEncoder()

// RFC 7617 §2: neither may have a control character.
const hasControl = (s: string): boolean => {
  for (let i = 0; i < s.length; i++) {
    const code = s.charCodeAt(i)
    if (code < 0x20 || code === 0x7f) return true
  }
  return false
}

/**
 * The value of `Authorization` or `Proxy-Authorization` in the scheme `Basic`, in UTF-8 (RFC 7617, section 2).
 *
 * **Details**
 *
 * `undefined` where the scheme cannot carry the credentials: a colon in the user name, a control character in either.
 *
 * @category encoding
 * @since 0.1.0
 */
export const basicAuthorization = ({ password, username }: Credentials): string | undefined =>
  username.includes(":") || hasControl(username) || hasControl(password)
    ? undefined
    : `Basic ${Base64.encode(encoder.encode(`${username}:${password}`))}`
