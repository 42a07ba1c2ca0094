/**
 * Headers as Node parsed them.
 *
 * @since 0.1.0
 */
import type { Headers } from "@effect-ws/core/protocol/Handshake"

/**
 * The headers of a request or response, by lower-case name; lines of the same name are joined.
 *
 * **Details**
 *
 * Made from the raw lines: before the Node releases of March 2026, reading `headersDistinct` throws when a header is called
 * `__proto__` (CVE-2026-21710).
 */
export const fromRaw = (rawHeaders: ReadonlyArray<string>): Headers => {
  const headers = new Map<string, string>()
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const key = rawHeaders[i]!.toLowerCase()
    const value = rawHeaders[i + 1]!
    const before = headers.get(key)
    headers.set(key, before === undefined ? value : `${before}, ${value}`)
  }
  return Object.fromEntries(headers)
}
