/**
 * RFC 6455, section 4.1: what a client asks.
 */
import { isToken, parseExtensions, parseTokens } from "@effect-ws/core/protocol/ExtensionHeader"
import * as Handshake from "@effect-ws/core/protocol/Handshake"
import { parseUrl } from "@effect-ws/core/protocol/WebSocketUrl"
import type { ClientHandshakeRule, Connecting } from "../../ClientHandshakeRule.ts"
import type { Request } from "../../HandshakeRule.ts"

const asks = (
  title: string,
  faultOf: (request: Request, next: Request, connecting: Connecting) => string | undefined,
  connecting: Partial<Connecting> = {},
  section = "4.1"
): ClientHandshakeRule => ({ section, title: `asks: ${title}`, connecting, _tag: "Request", faultOf })

const valuesOf = ({ headers }: Request, name: string): ReadonlyArray<string> =>
  headers.filter((line) => line[0].toLowerCase() === name).map(([, value]) => value)

const shown = (values: ReadonlyArray<string>): string => values.map((value) => JSON.stringify(value)).join(" and ")

// A header that comes once, with this value.
const once =
  (name: string, isRight: (value: string, connecting: Connecting) => boolean) =>
  (request: Request, _next: Request, connecting: Connecting): string | undefined => {
    const values = valuesOf(request, name)
    if (values.length !== 1) return `${name} comes ${values.length} times`
    return isRight(values[0]!, connecting) ? undefined : `${name} is ${shown(values)}`
  }

const names = (token: string) => (value: string): boolean =>
  value.split(",").some((each) => each.trim().toLowerCase() === token)

// Of a value in the base64 of 16 bytes, the last character before the padding has two bits.
const isKey = (key: string): boolean => /^[A-Za-z0-9+/]{21}[AQgw]==$/.test(key)

const keyOf = (request: Request): string | undefined => valuesOf(request, "sec-websocket-key")[0]

const urlOf = ({ url }: Connecting) => {
  const parsed = parseUrl(url)
  return parsed._tag === "WebSocketUrl" ? parsed : undefined
}

// A list that may come in several lines.
const list = (request: Request, name: string): string | undefined => {
  const values = valuesOf(request, name)
  return values.length === 0 ? undefined : values.join(", ")
}

// In the order of preference.
export const subprotocols = ["v2.chat", "v1.chat"]

const offersExtensions = (isOffered: boolean): ClientHandshakeRule =>
  asks(
    isOffered ? "permessage-deflate, in the grammar of extensions" : "no extension that is not asked for",
    (request) => {
      const value = list(request, "sec-websocket-extensions")
      if (value === undefined) return isOffered ? "there is no Sec-WebSocket-Extensions" : undefined
      const hasDeflate = parseExtensions(value)?.some(({ name }) => name === "permessage-deflate")
      return hasDeflate === isOffered ? undefined : `Sec-WebSocket-Extensions is ${shown([value])}`
    },
    { deflate: isOffered },
    "9.1"
  )

export const requests: ReadonlyArray<ClientHandshakeRule> = [
  asks("with GET", ({ method }) => method === "GET" ? undefined : `the method is ${method}`),
  asks("in HTTP/1.1", ({ version }) => version === "1.1" ? undefined : `the version is ${version}`),
  asks("for the path and the query of the URL", ({ target }, _, connecting) => {
    return target === urlOf(connecting)?.target ? undefined : `the target is ${target}`
  }, { url: "/a/b%20c?d=e&f" }),
  asks("for / where the URL has no path", ({ target }) => target === "/" ? undefined : `the target is ${target}`),
  asks("with the host and port of the URL", once("host", (value, to) => value === urlOf(to)?.hostHeader)),
  asks("for an upgrade to websocket", once("upgrade", names("websocket"))),
  asks("with Upgrade as an option of the connection", (request) => {
    const value = list(request, "connection") ?? ""
    return names("upgrade")(value) ? undefined : `Connection is ${shown([value])}`
  }),
  asks("with one key: 16 bytes in base64", once("sec-websocket-key", isKey)),
  asks("with a key that no other connection has", (request, next) => {
    return keyOf(request) === keyOf(next) ? `two connections have the key ${keyOf(request)}` : undefined
  }),
  asks("for version 13", once("sec-websocket-version", (value) => value === "13")),
  asks("for the subprotocols, each once, in the order of preference", (request) => {
    const value = list(request, "sec-websocket-protocol") ?? ""
    return parseTokens(value)?.join() === subprotocols.join()
      ? undefined
      : `Sec-WebSocket-Protocol is ${shown([value])}`
  }, { subprotocols }),
  asks("without Sec-WebSocket-Protocol where it has none to offer", (request) => {
    const value = list(request, "sec-websocket-protocol")
    return value === undefined ? undefined : `Sec-WebSocket-Protocol is ${shown([value])}`
  }),
  offersExtensions(true),
  offersExtensions(false),
  asks(
    "without Sec-WebSocket-Accept, which is the server's",
    (request) => {
      return valuesOf(request, "sec-websocket-accept").length === 0 ? undefined : "there is a Sec-WebSocket-Accept"
    },
    {},
    "11.3.3"
  ),
  asks("from one origin, if any", (request) => {
    const values = valuesOf(request, "origin")
    return values.length <= 1 ? undefined : `Origin is ${shown(values)}`
  }),
  asks("without a body", (request) => {
    const [length = "0"] = valuesOf(request, "content-length")
    return length === "0" && valuesOf(request, "transfer-encoding").length === 0 ? undefined : "there is a body"
  }),
  asks("with headers that are HTTP", ({ headers }) => {
    const wrong = headers.find(([name, value]) =>
      !isToken(name) || Handshake.invalidHeader({ name: value }) !== undefined
    )
    return wrong && `there is a header ${shown(wrong)}`
  }, { subprotocols })
]
