/**
 * Rules of the opening handshake as data: what a client sends, and what a server that keeps the rule makes of it.
 *
 * @since 0.1.0
 */

/**
 * One rule of RFC 6455, section 4, or one attack on a server that waits for requests.
 *
 * **Details**
 *
 * `section` is that of RFC 6455. `limits` are those that the server has to have for it.
 *
 * @category models
 * @since 0.1.0
 */
export interface HandshakeRule {
  readonly section: string
  readonly title: string
  readonly limits?: Partial<HandshakeLimits>
  readonly sent: Sent
  readonly outcome: HandshakeOutcome
}

/**
 * What a server takes from a client before there is a connection. `handshakeMillis` is the time in which the head of a
 * request has to arrive.
 *
 * @category models
 * @since 0.1.0
 */
export interface HandshakeLimits {
  readonly maxHeaders: number
  readonly handshakeMillis: number
}

/**
 * What the client sends, all at once: a request, or bytes, each a character of `text`. Then it waits, or ends what it sends,
 * or resets the connection.
 *
 * @category models
 * @since 0.1.0
 */
export type Sent =
  | { readonly _tag: "Request"; readonly request: Request }
  | { readonly _tag: "Bytes"; readonly text: string; readonly ending: "Wait" | "End" | "Reset" }

/**
 * The head of a request, line by line.
 *
 * **Details**
 *
 * Without a `target`, it is that of the server's URL. In the values of headers, `{host}` stands for the URL's host and port,
 * and `{origin}` for the origin of a page from there.
 *
 * @category models
 * @since 0.1.0
 */
export interface Request {
  readonly method: string
  readonly target: string | undefined
  readonly version: string
  readonly headers: ReadonlyArray<readonly [name: string, value: string]>
}

/**
 * What happens.
 *
 * **Details**
 *
 * - `Accepted`: the answer is 101, with these headers, whose values may be among others.
 * - `Refused`: the answer has one of these statuses, of which the RFC leaves the choice to the server, the best first; and
 *   these headers.
 * - `Dropped`: the server ends the connection, with or without an answer that is not 101.
 * - `Over`: the connection comes to its end, whatever was answered.
 *
 * Whatever it is, the server serves the next client.
 *
 * @category models
 * @since 0.1.0
 */
export type HandshakeOutcome =
  | { readonly _tag: "Accepted"; readonly headers: Readonly<Record<string, string>> }
  | {
    readonly _tag: "Refused"
    readonly statuses: ReadonlyArray<number>
    readonly headers: Readonly<Record<string, string>>
  }
  | { readonly _tag: "Dropped" }
  | { readonly _tag: "Over" }

/**
 * The key of the example in RFC 6455, section 1.3.
 *
 * @category requests
 * @since 0.1.0
 */
export const sampleKey = "dGhlIHNhbXBsZSBub25jZQ=="

/**
 * The answer to {@link sampleKey}.
 *
 * @category requests
 * @since 0.1.0
 */
export const sampleAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

/**
 * What is different in a request: a header of `undefined` is left out, one of several values comes as often.
 *
 * @category requests
 * @since 0.1.0
 */
export interface Changes {
  readonly method?: string | undefined
  readonly version?: string | undefined
  readonly headers?: Readonly<Record<string, string | ReadonlyArray<string> | undefined>> | undefined
}

/**
 * An opening request that keeps the rules, but for the changes.
 *
 * @category requests
 * @since 0.1.0
 */
export const request = (changes: Changes = {}): Request => {
  const headers = {
    "Host": "{host}",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": sampleKey,
    "Sec-WebSocket-Version": "13",
    ...changes.headers
  }
  return {
    method: changes.method ?? "GET",
    target: undefined,
    version: changes.version ?? "1.1",
    headers: Object.entries(headers).flatMap(([name, value]) =>
      value === undefined ? [] : [value].flat().map((each) => [name, each] as const)
    )
  }
}

/**
 * The server accepts the request.
 *
 * @category outcomes
 * @since 0.1.0
 */
export const accepts = (headers: Readonly<Record<string, string>> = {}): HandshakeOutcome => ({
  _tag: "Accepted",
  headers
})

/**
 * The server refuses the request with one of the statuses.
 *
 * @category outcomes
 * @since 0.1.0
 */
export const refuses = (
  statuses: ReadonlyArray<number>,
  headers: Readonly<Record<string, string>> = {}
): HandshakeOutcome => ({ _tag: "Refused", statuses, headers })
