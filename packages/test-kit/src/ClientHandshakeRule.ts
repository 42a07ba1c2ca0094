/**
 * Rules of the opening handshake for clients as data: how one asks, and what it makes of the answers of a server.
 *
 * @since 0.1.0
 */
import type { Request } from "./HandshakeRule.ts"

/**
 * One rule of RFC 6455, section 4, or one attack on a client that waits for an answer.
 *
 * **Details**
 *
 * `section` is that of RFC 6455. `connecting` is how the client is told to connect.
 *
 * A `Request` rule is about what the client asks: `faultOf` tells what is wrong with its request, if anything, and is also
 * given the one of its next connection. A `Response` rule is about what it makes of an answer.
 *
 * @category models
 * @since 0.1.0
 */
export type ClientHandshakeRule =
  & {
    readonly section: string
    readonly title: string
    readonly connecting?: Partial<Connecting>
  }
  & (
    | {
      readonly _tag: "Request"
      readonly faultOf: (request: Request, next: Request, connecting: Connecting) => string | undefined
    }
    | { readonly _tag: "Response"; readonly answer: Answer; readonly outcome: ClientOutcome }
  )

/**
 * How a client is to connect.
 *
 * **Details**
 *
 * `deflate` is whether it offers permessage-deflate. `handshakeMillis` is the time after which it has to give up; without it,
 * it does as it likes.
 *
 * @category models
 * @since 0.1.0
 */
export interface Connecting {
  readonly url: string
  readonly subprotocols: ReadonlyArray<string>
  readonly deflate: boolean
  readonly handshakeMillis: number | undefined
}

/**
 * What the server answers: a 101 with these headers, line by line; or bytes, each a character of `text`.
 *
 * **Details**
 *
 * `{accept}` and `{key}` stand for the right `Sec-WebSocket-Accept`, and for the client's key. Of what comes of it, `upTo`
 * bytes are sent, or all; `cuts` are where they are cut into pieces that are sent one after the other. Then the server
 * waits, or ends what it sends, or resets the connection.
 *
 * @category models
 * @since 0.1.0
 */
export type Answer =
  | { readonly _tag: "Switch"; readonly headers: Lines }
  | {
    readonly _tag: "Bytes"
    readonly text: string
    readonly upTo?: number
    readonly cuts?: ReadonlyArray<number>
    readonly ending: "Wait" | "End" | "Reset"
  }

/**
 * Headers, line by line.
 *
 * @category models
 * @since 0.1.0
 */
export type Lines = ReadonlyArray<readonly [name: string, value: string]>

/**
 * What happens.
 *
 * **Details**
 *
 * - `Connected`: the client sends these messages back, which the server has sent with its answer, and the next one.
 * - `Refused`: it sends nothing more, and ends the connection.
 * - `Either`: one of the two; the RFC leaves it to the client, or does not tell.
 * - `Over`: the connection comes to its end, whatever the client made of the answer.
 *
 * Whatever it is, the client can connect again.
 *
 * @category models
 * @since 0.1.0
 */
export type ClientOutcome =
  | { readonly _tag: "Connected"; readonly messages: ReadonlyArray<string> }
  | { readonly _tag: "Refused" }
  | { readonly _tag: "Either" }
  | { readonly _tag: "Over" }

/**
 * The headers of a 101 that keeps the rules, but for the changes: one of `undefined` is left out, one of several values comes
 * as often.
 *
 * @category answers
 * @since 0.1.0
 */
export const switching = (
  changes: Readonly<Record<string, string | ReadonlyArray<string> | undefined>> = {}
): Lines =>
  Object.entries({
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Accept": "{accept}",
    ...changes
  }).flatMap(([name, value]) => value === undefined ? [] : [value].flat().map((each) => [name, each] as const))

/**
 * The head of a response as it is on the wire.
 *
 * @category answers
 * @since 0.1.0
 */
export const headOf = (headers: Lines, statusLine = "HTTP/1.1 101 Switching Protocols"): string =>
  `${statusLine}\r\n${headers.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`

/**
 * The client connects.
 *
 * @category outcomes
 * @since 0.1.0
 */
export const connects = (...messages: ReadonlyArray<string>): ClientOutcome => ({ _tag: "Connected", messages })
