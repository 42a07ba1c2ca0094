/**
 * Who is behind the proxies: the headers `Forwarded` (RFC 7239) and `X-Forwarded-For`, `-Host` and `-Proto`, believed only as
 * far as the proxies that wrote them are.
 *
 * @since 0.1.0
 */
import * as IpNetwork from "effect/net/IpNetwork"
import * as NetAddress from "effect/net/NetAddress"
import * as Result from "effect/Result"
import { equalsIgnoreCase, isToken } from "./ExtensionHeader.ts"
import type { Headers } from "./Handshake.ts"
import { isAuthority } from "./WebSocketUrl.ts"

/**
 * The proxies whose headers are believed.
 *
 * **Details**
 *
 * - `addresses` are those from which the proxies connect: IP addresses and networks such as `10.0.0.0/8` and `fd00::/8`.
 *   `"unix"` is whoever connects at a Unix socket.
 * - `headers` are those that the proxies write: `"x-forwarded"`, the default, is `X-Forwarded-For`, `X-Forwarded-Host` and
 *   `X-Forwarded-Proto`; `"forwarded"` is the `Forwarded` of RFC 7239. Only these are read.
 *
 * **Gotchas**
 *
 * A header that the proxies do not write themselves comes from the client. They have to append to, or replace, each header
 * of the family.
 *
 * @category models
 * @since 0.1.0
 */
export interface TrustedProxies {
  readonly addresses: ReadonlyArray<string>
  readonly headers?: "x-forwarded" | "forwarded" | undefined
}

/**
 * A request as it came from its client.
 *
 * **Details**
 *
 * `address` is an IP address, in its shortest form; `undefined` if nobody tells it. `secure` says whether the client used TLS,
 * `host` which host it asked for, with the port unless that is the scheme's default.
 *
 * @category models
 * @since 0.1.0
 */
export interface Origination {
  readonly address: string | undefined
  readonly secure: boolean
  readonly host: string
}

/**
 * Finds out where a request came from, given what its socket and its headers say; `"Malformed"` if a trusted proxy sent what
 * cannot be read.
 *
 * @category models
 * @since 0.1.0
 */
export type Resolver = (
  request: Origination & { readonly isUnix: boolean; readonly headers: Headers }
) => Origination | "Malformed"

/**
 * Makes the resolver of a server, or gives the first address that is none.
 *
 * **Details**
 *
 * The addresses that the headers list are walked from the right, where the nearest proxy wrote, as long as each is a trusted
 * proxy's; the first that is not is the client's. If all are, it is the leftmost. What stands to the left of it was written by
 * the client, and means nothing. An entry that is no address (`unknown`, RFC 7239, section 6.2) ends the walk too, and then
 * the client's address is unknown.
 *
 * Scheme and host are those that the same proxy noted. Of `X-Forwarded-Host` and `X-Forwarded-Proto`, that is the value as far
 * from the right as the client's address; where the list is shorter, because proxies replace it, the leftmost.
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeResolver = (
  proxies: TrustedProxies | undefined
): Resolver | { readonly _tag: "InvalidAddress"; readonly address: string } => {
  const networks: Array<IpNetwork.IpNetwork> = []
  for (const address of proxies?.addresses ?? []) {
    if (address === "unix") continue
    const network = parseNetwork(address)
    if (network === undefined) return { _tag: "InvalidAddress", address }
    networks.push(network)
  }
  const trustsUnix = proxies?.addresses.includes("unix") === true
  const isTrusted = (address: NetAddress.IpAddress) => networks.some((network) => IpNetwork.contains(network, address))
  const read = proxies?.headers === "forwarded" ? readForwarded : readXForwarded

  return ({ address: peer, headers, host, isUnix, secure }) => {
    // Most servers trust nobody, and IPv4 addresses are written in one way only.
    if (proxies === undefined && peer?.includes(":") !== true) return { address: peer, secure, host }
    const parsed = peer === undefined ? undefined : parseAddress(peer)
    const direct = { address: parsed === undefined ? peer : NetAddress.formatIp(parsed), secure, host }
    const isProxy = parsed === undefined ? isUnix && trustsUnix : isTrusted(parsed)
    if (!isProxy) return direct
    const hops = read(headers)
    if (hops === undefined) return "Malformed"
    if (hops.length === 0) return direct
    let at = hops.length - 1
    let address = parseNode(hops[at]!.for)
    while (at > 0 && address !== undefined && isTrusted(address)) address = parseNode(hops[--at]!.for)
    const { host: forwardedHost = host, proto } = hops[at]!
    if (!isAuthority(forwardedHost)) return "Malformed"
    return {
      address: address && NetAddress.formatIp(address),
      secure: proto === undefined ? secure : isSecure(proto),
      host: forwardedHost
    }
  }
}

// What one proxy noted of the request that it got, as text.
interface Hop {
  readonly for?: string | undefined
  readonly host?: string | undefined
  readonly proto?: string | undefined
}

const readXForwarded = (headers: Headers): ReadonlyArray<Hop> => {
  const addresses = listOf(headers["x-forwarded-for"])
  const hosts = listOf(headers["x-forwarded-host"])
  const protos = listOf(headers["x-forwarded-proto"])
  // A proxy that names no address may name the others.
  const count = addresses.length > 0 ? addresses.length : Math.min(1, hosts.length + protos.length)
  const fromRight = (list: ReadonlyArray<string>, distance: number) => list[Math.max(0, list.length - 1 - distance)]
  return Array.from({ length: count }, (_, i) => ({
    for: addresses[i],
    host: fromRight(hosts, count - 1 - i),
    proto: fromRight(protos, count - 1 - i)
  }))
}

const listOf = (header: string | undefined): ReadonlyArray<string> =>
  header === undefined ? [] : header.split(",").map((item) => item.trim()).filter((item) => item !== "")

// RFC 7239, section 4: Forwarded = 1#( [ pair ] *( ";" [ pair ] ) ); pair = token "=" ( token / quoted-string ). More is
// taken as a token than that: brackets and colons without quotes are common.
const readForwarded = (headers: Headers): ReadonlyArray<Hop> | undefined => {
  const elements = splitUnquoted(headers["forwarded"] ?? "", ",")
  const hops: Array<Hop> = []
  for (const element of elements ?? [undefined]) {
    const pairs = element === undefined ? undefined : splitUnquoted(element, ";")
    if (pairs === undefined) return undefined
    if (pairs.length === 0) continue
    const hop = new Map<string, string>()
    for (const pair of pairs) {
      const equals = pair.indexOf("=")
      const name = pair.slice(0, Math.max(0, equals)).toLowerCase()
      const value = unquote(pair.slice(equals + 1))
      if (!isToken(name) || value === undefined || hop.has(name)) return undefined
      hop.set(name, value)
    }
    hops.push({ for: hop.get("for"), host: hop.get("host"), proto: hop.get("proto") })
  }
  return hops
}

// The parts that are not empty; `undefined` if a quoted string does not end.
const splitUnquoted = (text: string, separator: string): ReadonlyArray<string> | undefined => {
  const parts: Array<string> = []
  let start = 0
  let isQuoted = false
  for (let i = 0; i <= text.length; i++) {
    const char = text.charAt(i)
    if (isQuoted && char === "\\") i++
    else if (char === "\"") isQuoted = !isQuoted
    else if (i === text.length || (char === separator && !isQuoted)) {
      parts.push(text.slice(start, i).trim())
      start = i + 1
    }
  }
  return isQuoted ? undefined : parts.filter((part) => part !== "")
}

const unquote = (value: string): string | undefined => {
  if (!value.startsWith("\"")) return isToken(value.replaceAll(/[:[\]]/g, "")) ? value : undefined
  let unquoted = ""
  for (let i = 1; i < value.length; i++) {
    const char = value.charAt(i)
    if (char === "\"") return i === value.length - 1 ? unquoted : undefined
    unquoted += char === "\\" ? value.charAt(++i) : char
  }
  return undefined
}

const isSecure = (proto: string): boolean => equalsIgnoreCase(proto, "https") || equalsIgnoreCase(proto, "wss")

// RFC 7239, section 6: an address, in brackets if it is IPv6, with or without a port; `unknown`; or a name behind "_".
const parseNode = (node: string | undefined): NetAddress.IpAddress | undefined => {
  if (node === undefined) return undefined
  const bare = node.startsWith("[") && node.endsWith("]") ? node.slice(1, -1) : node
  const address = parseAddress(bare)
  if (address !== undefined) return address
  const withPort = NetAddress.inetAddressFromString(node)
  return Result.isSuccess(withPort) ? NetAddress.toCanonical(withPort.success.address) : undefined
}

// A socket that takes both families shows an IPv4 address as one of IPv6.
const parseAddress = (text: string): NetAddress.IpAddress | undefined => {
  const address = NetAddress.ipFromString(text)
  return Result.isSuccess(address) ? NetAddress.toCanonical(address.success) : undefined
}

const parseNetwork = (text: string): IpNetwork.IpNetwork | undefined => {
  const address = parseAddress(text)
  const network = address === undefined
    ? IpNetwork.fromString(text)
    : IpNetwork.make(address, NetAddress.width(address))
  return Result.isSuccess(network) ? network.success : undefined
}
