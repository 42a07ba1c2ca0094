/**
 * Which proxy leads to a URL, as options or the environment say.
 *
 * @since 0.1.0
 */
import { type Credentials, credentialsOf } from "@effect-ws/core/protocol/BasicAuth"
import type { WebSocketUrl } from "@effect-ws/core/protocol/WebSocketUrl"
import { InvalidProxy } from "@effect-ws/core/WebSocketError"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Net from "node:net"

/**
 * A proxy: where it is, and how to speak to it.
 *
 * **Details**
 *
 * `name` is its URL without credentials. `host` is an IPv6 address without brackets.
 *
 * @category models
 * @since 0.1.0
 */
export interface Proxy {
  readonly _tag: "Proxy"
  readonly protocol: "http" | "https" | "socks5" | "socks5h"
  readonly name: string
  readonly host: string
  readonly port: number
  readonly credentials: Credentials | undefined
}

const defaultPorts = { http: 80, https: 443, socks5: 1080, socks5h: 1080 }

const isProtocol = (name: string): name is Proxy["protocol"] => Object.hasOwn(defaultPorts, name)

/**
 * Reads the URL of a proxy. The default ports are 80, 443 and, for SOCKS, 1080.
 *
 * **Details**
 *
 * What is wrong with it is told without a word of it, as it may hold a password.
 *
 * @category decoding
 * @since 0.1.0
 */
export const parse = (url: string | URL): Proxy | InvalidProxy => {
  const invalid = (detail: string) => new InvalidProxy({ detail })
  const parsed = URL.parse(url)
  if (parsed === null) return invalid("the proxy is not a URL")
  const protocol = parsed.protocol.slice(0, -1)
  if (!isProtocol(protocol)) return invalid("the scheme of the proxy is none of http, https, socks5 and socks5h")
  const { hostname } = parsed
  if (hostname === "") return invalid("the URL of the proxy has no host")
  const credentials = credentialsOf(parsed)
  if (credentials === undefined) return invalid("the user name or password of the proxy is malformed")
  const host = hostname.startsWith("[") ? hostname.slice(1, -1) : hostname
  const port = parsed.port === "" ? defaultPorts[protocol] : Number(parsed.port)
  return {
    _tag: "Proxy",
    protocol,
    name: `${protocol}://${hostname}:${port}`,
    host,
    port,
    credentials: credentials.username === "" && credentials.password === "" ? undefined : credentials
  }
}

/**
 * The variables of the environment that name proxies, and their exemptions.
 *
 * @category models
 * @since 0.1.0
 */
export interface Environment {
  readonly http: string | undefined
  readonly https: string | undefined
  readonly all: string | undefined
  readonly no: string | undefined
}

const variable = (name: string, other = name) =>
  Config.String(name).pipe(
    Config.orElse(() => Config.String(other)),
    Config.option,
    Config.map(Option.getOrUndefined)
  )

/**
 * Reads `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` with the `ConfigProvider`, in lower case or, all but
 * `http_proxy`, in upper case. A variable that is empty counts as not set.
 *
 * **Gotchas**
 *
 * `HTTP_PROXY` has no say, as with curl: a CGI program finds the header `Proxy` of the request there
 * (https://httpoxy.org). A `ConfigProvider` that cannot be read is a defect.
 *
 * @category constructors
 * @since 0.1.0
 */
export const environment: Effect.Effect<Environment> = Effect.orDie(Config.all({
  http: variable("http_proxy"),
  https: variable("https_proxy", "HTTPS_PROXY"),
  all: variable("all_proxy", "ALL_PROXY"),
  no: variable("no_proxy", "NO_PROXY")
}))

/**
 * Chooses the proxy for a URL by the environment; `undefined` for none.
 *
 * **Details**
 *
 * `https` is for `wss:` and `http` for `ws:`; for both, `all` where that is not set. The scheme of a proxy may be left out,
 * and is `http:` then. What is no proxy fails only who would have to use it.
 *
 * @category combinators
 * @since 0.1.0
 */
export const fromEnvironment = (
  { all, http, https, no }: Environment
): (url: WebSocketUrl) => Proxy | InvalidProxy | undefined => {
  // In the environment, the scheme may be left out.
  const read = (value: string | undefined) =>
    value === undefined || value === "" ? undefined : parse(value.includes("://") ? value : `http://${value}`)
  const proxies = { plain: read(http ?? all), secure: read(https ?? all) }
  return (url) => {
    const proxy = url.secure ? proxies.secure : proxies.plain
    return proxy === undefined || isExempt(no ?? "", url) ? undefined : proxy
  }
}

/**
 * Tells whether `no_proxy` exempts a target from proxies, as curl does, and for ports as Go and Python do.
 *
 * **Details**
 *
 * The list is separated by commas or white space. `*` exempts everything; `example.com`, `.example.com` and
 * `*.example.com` the domain and all below it; an address, or a network in CIDR notation, itself. Each may be followed by
 * a port; an IPv6 address is in brackets then.
 *
 * **Gotchas**
 *
 * Names are not resolved: a network exempts addresses in URLs, and not hosts that have such an address.
 *
 * @category guards
 * @since 0.1.0
 */
export const isExempt = (
  noProxy: string,
  { host, port }: { readonly host: string; readonly port: number }
): boolean => {
  const name = withoutDot(host.toLowerCase())
  return noProxy.toLowerCase().split(/[\s,]+/).some((entry) => {
    if (entry === "") return false
    const [pattern, itsPort] = splitPort(entry)
    return (itsPort === undefined || itsPort === String(port)) && matches(pattern, name)
  })
}

const withoutDot = (name: string): string => name.endsWith(".") ? name.slice(0, -1) : name

// An IPv6 address has colons of its own; with a port, it is in brackets.
const splitPort = (entry: string): readonly [pattern: string, port: string | undefined] => {
  if (entry.startsWith("[")) {
    const end = entry.indexOf("]")
    const [, port] = entry.slice(end).split(":")
    return [entry.slice(1, end), port]
  }
  const [pattern = "", port, ...more] = entry.split(":")
  return more.length > 0 ? [entry, undefined] : [pattern, port]
}

const matches = (pattern: string, name: string): boolean => {
  if (pattern === "*") return true
  if (Net.isIP(name) !== 0) return matchesAddress(pattern, name)
  const domain = withoutDot(pattern.replace(/^\*?\./, ""))
  return domain !== "" && (name === domain || name.endsWith(`.${domain}`))
}

const matchesAddress = (pattern: string, address: string): boolean => {
  const [network = "", prefix, ...more] = pattern.split("/")
  const version = Net.isIP(network)
  if (version === 0 || more.length > 0) return false
  const bits = prefix === undefined ? (version === 6 ? 128 : 32) : Number(prefix)
  if (prefix !== undefined && !/^\d{1,3}$/.test(prefix)) return false
  if (bits > (version === 6 ? 128 : 32)) return false
  const list = new Net.BlockList()
  list.addSubnet(network, bits, version === 6 ? "ipv6" : "ipv4")
  return list.check(address, Net.isIP(address) === 6 ? "ipv6" : "ipv4")
}
