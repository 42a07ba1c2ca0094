/**
 * Which pages may open a connection: the check of the `Origin` header (RFC 6455, sections 4.2.2 and 10.2; RFC 6454).
 *
 * @since 0.1.0
 */
import { equalsIgnoreCase } from "./ExtensionHeader.ts"
import { isAuthority } from "./WebSocketUrl.ts"

/**
 * The origins that a server accepts.
 *
 * **Details**
 *
 * - `allow: "any"`: the origin is not looked at.
 * - `allow: "same-origin"`: the origin's host and port are those of the `Host` header.
 * - `allow: [...]`: one of these serialized origins (RFC 6454, section 6.2), such as `https://example.com`.
 * - `requireOrigin`: refuses a request without `Origin`, whatever `allow` says. Browsers always send it, so by default a
 *   request without it, which comes from another kind of client, passes.
 *
 * **Gotchas**
 *
 * A listed origin has no path, not even `/`, and no default port: browsers send none. Listing `null` lets in every
 * sandboxed frame and local file.
 *
 * @category models
 * @since 0.1.0
 */
export interface OriginPolicy {
  readonly allow: "any" | "same-origin" | ReadonlyArray<string>
  readonly requireOrigin?: boolean | undefined
}

// RFC 6454 §7.1: an origin is `scheme "://" host [ ":" port ]`; "null" stands for one that is opaque.
// The split also settles that there is one origin: the list of redirecting origins in §7.1 has spaces in it.
const splitOrigin = (origin: string): { readonly scheme: string; readonly authority: string } | undefined => {
  const colon = origin.indexOf("://")
  if (colon === -1) return undefined
  const scheme = origin.slice(0, colon)
  const authority = origin.slice(colon + 3)
  if (!isAuthority(authority)) return undefined
  // The parser forgives what stands before and inside the scheme (spaces, tabs); then the two schemes differ.
  const protocol = URL.parse(origin)?.protocol
  return protocol !== undefined && equalsIgnoreCase(protocol, `${scheme}:`) ? { scheme, authority } : undefined
}

// The parser lower-cases the host, brings IP addresses to one form and leaves out the scheme's default port.
const normalizedHost = (scheme: string, authority: string): string | undefined =>
  URL.parse(`${scheme}://${authority}`)?.host

const isSameOrigin = (origin: string, host: string | undefined): boolean => {
  if (host === undefined || !isAuthority(host)) return false
  const parts = splitOrigin(origin)
  if (parts === undefined) return false
  const { authority, scheme } = parts
  // A page with any other scheme (an extension, an app) is not served from this host, though its origin may name it.
  if (!equalsIgnoreCase(scheme, "http") && !equalsIgnoreCase(scheme, "https")) return false
  const expected = normalizedHost(scheme, host)
  return expected !== undefined && normalizedHost(scheme, authority) === expected
}

/**
 * Tells whether a request with this `Origin` and this `Host` may open a connection (RFC 6455, section 4.2.2, item 4).
 *
 * **Details**
 *
 * The comparison ignores the case of ASCII letters. An origin that is not well-formed passes only under `"any"`. The
 * opaque origin `null` is never the same origin.
 *
 * **Gotchas**
 *
 * `"same-origin"` compares host and port, with the default port of the origin's scheme, but not the scheme itself: behind
 * a proxy that ends TLS, the server cannot tell which one the browser used. Such a proxy has to pass `Host` on.
 *
 * @category guards
 * @since 0.1.0
 */
export const isOriginAllowed = (
  origin: string | undefined,
  host: string | undefined,
  policy: OriginPolicy
): boolean => {
  if (origin === undefined) return policy.requireOrigin !== true
  const { allow } = policy
  if (allow === "any") return true
  if (allow === "same-origin") return isSameOrigin(origin, host)
  return (origin === "null" || splitOrigin(origin) !== undefined) &&
    allow.some((allowed) => equalsIgnoreCase(allowed, origin))
}
