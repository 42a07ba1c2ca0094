/**
 * Whether a server keeps the rules of the opening handshake, and withstands who does not.
 *
 * @since 0.1.0
 */
import * as Handshake from "@effect-ws/core/protocol/Handshake"
import { parseUrl, type WebSocketUrl } from "@effect-ws/core/protocol/WebSocketUrl"
import type { Transport } from "@effect-ws/core/Transport"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Result } from "./Conformance.ts"
import { accepts, type HandshakeLimits, type HandshakeRule, type Request, request, type Sent } from "./HandshakeRule.ts"
import { heads, leaving, opening, origins, slow } from "./internal/conformance/handshake.ts"
import { type Head, HttpReader } from "./internal/httpReader.ts"
import { inTime } from "./internal/realTime.ts"
import { TestNetwork } from "./TestNetwork.ts"
import * as WebSocketProbe from "./WebSocketProbe.ts"

/**
 * The rules, by topic.
 *
 * **Details**
 *
 * `origins` are those of a server that takes pages of its own origin only; `slow` and some of `heads` are about limits.
 *
 * @category rules
 * @since 0.1.0
 */
export const rules: Readonly<Record<string, ReadonlyArray<HandshakeRule>>> = { opening, origins, heads, leaving, slow }

/**
 * A server to be held against the rules: one that sends every message back.
 *
 * **Details**
 *
 * `attempt` makes a new connection, sends what it is told, and gives what came of it. `hasLimits` tells whether the server
 * can keep to the limits that a rule supposes, which `attempt` is told; otherwise such rules are skipped. `carriesBytes`
 * tells whether requests reach it as bytes; otherwise the rules that are about bytes are skipped.
 *
 * @category models
 * @since 0.1.0
 */
export interface Endpoint<E = never, R = never> {
  readonly url: string
  readonly hasLimits: boolean
  readonly carriesBytes: boolean
  readonly attempt: (sent: Sent, limits: Partial<HandshakeLimits>) => Effect.Effect<Attempt, E, R | Scope.Scope>
}

/**
 * What came of a request. `answer` waits for the head of the response, and is `undefined` if the connection comes to its
 * end without one. `ended` waits for that end.
 *
 * @category models
 * @since 0.1.0
 */
export interface Attempt {
  readonly answer: Effect.Effect<Answer | undefined>
  readonly ended: Effect.Effect<void>
}

/**
 * The head of a response. After a 101, the connection goes on over the `transport`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Answer {
  readonly status: number
  readonly headers: Handshake.Headers
  readonly transport: Transport | undefined
}

/**
 * A server by its URL, which `open` connects to: as TCP or TLS does, before anything is sent.
 *
 * **Gotchas**
 *
 * A client resets by the `destroy` of its transport. With a socket of Node's, that is an end without a TCP reset, unless
 * something is unread; for one, give the transport a `destroy` that calls `resetAndDestroy`.
 *
 * **Example** (A server of somebody else)
 *
 * ```ts
 * import { NodeTransport } from "@effect-ws/node"
 * import { Conformance, HandshakeConformance } from "@effect-ws/test-kit"
 * import { Console, Effect } from "effect"
 * import * as Net from "node:net"
 *
 * const endpoint = HandshakeConformance.overTransport({
 *   url: "ws://localhost:8080/echo",
 *   hasLimits: false,
 *   open: () => Effect.sync(() => NodeTransport.fromSocket(Net.connect({ host: "localhost", port: 8080 })))
 * })
 *
 * const program = Effect.flatMap(HandshakeConformance.run(endpoint), (results) =>
 *   Console.log(Conformance.report(results)))
 * ```
 *
 * @category endpoints
 * @since 0.1.0
 */
export const overTransport = <E, R>({ hasLimits, open, url }: {
  readonly url: string
  readonly hasLimits: boolean
  readonly open: (limits: Partial<HandshakeLimits>) => Effect.Effect<Transport, E, R>
}): Endpoint<E, R> => ({
  url,
  hasLimits,
  carriesBytes: true,
  attempt: Effect.fnUntraced(function*(sent, limits) {
    const transport = yield* Effect.acquireRelease(open(limits), (transport) => Effect.sync(() => transport.destroy()))
    const reader = new HttpReader(transport)
    const text = sent._tag === "Bytes" ? sent.text : headOf(yield* parse(url), sent.request)
    if (text !== "") transport.write([Uint8Array.from(text, (character) => character.charCodeAt(0))])
    if (sent._tag === "Bytes" && sent.ending === "End") transport.end()
    if (sent._tag === "Bytes" && sent.ending === "Reset") transport.destroy()
    return { answer: Effect.map(reader.head, (head) => head && answerOf(head)), ended: reader.ended }
  })
})

/**
 * A server in the `TestNetwork`, which is to have the default limits.
 *
 * @category endpoints
 * @since 0.1.0
 */
export const inNetwork = (url: string): Endpoint<never, TestNetwork> => ({
  url,
  hasLimits: true,
  carriesBytes: false,
  attempt: Effect.fnUntraced(function*(sent) {
    if (sent._tag === "Bytes") return yield* Effect.die(new Error("a TestNetwork carries requests, not bytes"))
    const network = yield* TestNetwork
    const to = yield* parse(url)
    const { method, target = to.target, version } = sent.request
    const rawHeaders = linesOf(to, sent.request).flat()
    const headers = Handshake.headersOf(rawHeaders)
    const dialled = yield* Effect.result(
      network.dial({ url: { ...to, target }, headers, method, httpVersion: version, rawHeaders })
    )
    if (dialled._tag === "Failure") {
      const { failure } = dialled
      const answer = failure._tag === "UpgradeRejected" ? { ...failure, transport: undefined } : undefined
      return { answer: Effect.succeed(answer), ended: Effect.void }
    }
    const { transport } = dialled.success
    yield* Effect.addFinalizer(() => Effect.sync(() => transport.destroy()))
    return { answer: Effect.succeed({ status: 101, ...dialled.success }), ended: Effect.never }
  })
})

/**
 * Holds a server against the rules, one after the other: all {@link rules}, or those given. `Conformance.report` shows the
 * results.
 *
 * **Details**
 *
 * After each, another client has to be served as if nothing had happened: it is accepted, and its message comes back.
 *
 * @category running
 * @since 0.1.0
 */
export const run: <E, R>(
  endpoint: Endpoint<E, R>,
  tables?: Readonly<Record<string, ReadonlyArray<HandshakeRule>>>
) => Effect.Effect<ReadonlyArray<Result>, E, Exclude<R, Scope.Scope>> = Effect.fnUntraced(
  function*(endpoint, tables = rules) {
    const results: Array<Result> = []
    for (const [topic, table] of Object.entries(tables)) {
      for (const rule of table) {
        const isApplicable = (rule.sent._tag === "Request" || endpoint.carriesBytes) &&
          (rule.limits === undefined || endpoint.hasLimits)
        if (!isApplicable) {
          results.push({ topic, rule, _tag: "Skipped" })
          continue
        }
        const detail = (yield* check(rule, endpoint)) ?? (yield* check(another(rule), endpoint))
        results.push(detail === undefined ? { topic, rule, _tag: "Passed" } : { topic, rule, _tag: "Failed", detail })
      }
    }
    return results
  }
)

// The next client, of the same server.
const another = (rule: HandshakeRule): HandshakeRule => ({
  ...rule,
  sent: { _tag: "Request", request: request() },
  outcome: accepts()
})

const check = <E, R>(rule: HandshakeRule, { attempt }: Endpoint<E, R>) =>
  Effect.scoped(Effect.gen(function*() {
    const { answer, ended } = yield* attempt(rule.sent, rule.limits ?? {})
    const { outcome } = rule
    if (outcome._tag === "Over") {
      return (yield* inTime(ended))._tag === "None" ? "the connection does not come to its end" : undefined
    }
    const answered = yield* inTime(answer)
    if (answered._tag === "None") return "there was no answer"
    const told = answered.value
    if (outcome._tag === "Dropped") {
      if (told?.status === 101) return "the answer is 101"
      return (yield* inTime(ended))._tag === "None" ? "the connection does not come to its end" : undefined
    }
    if (told === undefined) return "the connection was ended without an answer"
    const statuses = outcome._tag === "Accepted" ? [101] : outcome.statuses
    if (!statuses.includes(told.status)) return `the status is ${told.status}, not ${statuses.join(" or ")}`
    for (const [name, value] of Object.entries(outcome.headers)) {
      const actual = told.headers[name] ?? ""
      // Base64 is case-sensitive; names are not, and a server may name more than it is asked for.
      const isSame = name === "sec-websocket-accept"
        ? actual === value
        : actual.toLowerCase().split(/, */).includes(value.toLowerCase())
      if (!isSame) return `${name} is ${JSON.stringify(actual)}, not ${value}`
    }
    if (told.status !== 101 || told.transport === undefined) return undefined
    const probe = yield* WebSocketProbe.make(told.transport, "client")
    yield* probe.sendText("still there?")
    return yield* probe.expectText("still there?").pipe(
      Effect.as(undefined),
      Effect.catch(({ message }) => Effect.succeed(message))
    )
  }))

const parse = Effect.fnUntraced(function*(url: string) {
  const parsed = parseUrl(url)
  return parsed._tag === "WebSocketUrl" ? parsed : yield* Effect.die(new Error(`${url} is no URL: ${parsed.detail}`))
})

const answerOf = ({ headers, startLine, transport }: Head): Answer => ({
  status: Number(/^HTTP\/1\.1 (\d{3})/.exec(startLine)?.[1]),
  headers: Handshake.headersOf(headers.flat()),
  transport
})

const linesOf = ({ hostHeader, secure }: WebSocketUrl, { headers }: Request) =>
  headers.map(([name, value]) =>
    [
      name,
      value.replaceAll("{host}", hostHeader).replaceAll("{origin}", `${secure ? "https" : "http"}://${hostHeader}`)
    ] as const
  )

const headOf = (url: WebSocketUrl, request: Request): string => {
  const { method, target = url.target, version } = request
  const lines = linesOf(url, request).map(([name, value]) => `${name}: ${value}\r\n`)
  return `${method} ${target} HTTP/${version}\r\n${lines.join("")}\r\n`
}
