/**
 * Whether a client keeps the rules of the opening handshake, and withstands servers that do not.
 *
 * @since 0.1.0
 */
import * as Handshake from "@effect-ws/core/protocol/Handshake"
import type { Upgrade } from "@effect-ws/core/ServerRuntime"
import type { Transport } from "@effect-ws/core/Transport"
import * as WebSocketClient from "@effect-ws/core/WebSocketClient"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import {
  type Answer,
  type ClientHandshakeRule,
  type Connecting,
  connects,
  headOf,
  type Lines,
  switching
} from "./ClientHandshakeRule.ts"
import type { Result } from "./Conformance.ts"
import type { Request } from "./HandshakeRule.ts"
import { answers, compressing, heads, losses, pieces, silence, statuses } from "./internal/conformance/clientAnswers.ts"
import { requests } from "./internal/conformance/clientRequests.ts"
import { HttpReader } from "./internal/httpReader.ts"
import { inTime, sleep } from "./internal/realTime.ts"
import { sha1 } from "./internal/sha1.ts"
import { TestNetwork } from "./TestNetwork.ts"
import * as Transcript from "./Transcript.ts"
import * as WebSocketProbe from "./WebSocketProbe.ts"

/**
 * The rules, by topic.
 *
 * **Details**
 *
 * `requests` are about what the client asks, the others about what it makes of an answer. `silence` supposes that it can be
 * told when to give up.
 *
 * @category rules
 * @since 0.1.0
 */
export const rules: Readonly<Record<string, ReadonlyArray<ClientHandshakeRule>>> = {
  requests,
  answers,
  compressing,
  statuses,
  heads,
  pieces,
  losses,
  silence
}

/**
 * A client to be held against the rules: one that sends every message back.
 *
 * **Details**
 *
 * `attempt` lets it connect as it is told to, to `url` or a path there. `hasLimits` tells whether it can be told when to give
 * up; `deflate`, whether it can connect without an offer of permessage-deflate, with one, or either way; `carriesBytes`,
 * whether answers reach it as bytes. Rules that suppose something else are skipped.
 *
 * @category models
 * @since 0.1.0
 */
export interface Endpoint<E = never, R = never> {
  readonly url: string
  readonly hasLimits: boolean
  readonly deflate: ReadonlyArray<boolean>
  readonly carriesBytes: boolean
  readonly attempt: (connecting: Connecting) => Effect.Effect<Attempt, E, R | Scope.Scope>
}

/**
 * A client that connects. `request` waits for the head of its request, and is `undefined` if the connection comes to its end
 * without one. `respond` answers, and gives the server's side of the connection.
 *
 * @category models
 * @since 0.1.0
 */
export interface Attempt {
  readonly request: Effect.Effect<Request | undefined>
  readonly respond: (answer: Answer) => Effect.Effect<WebSocketProbe.WebSocketProbe, never, Scope.Scope>
}

/**
 * A client that connects to `url`, where the test listens. `open` lets it connect, and gives the transport that has been
 * accepted, from which nothing was read.
 *
 * **Gotchas**
 *
 * A server resets by the `destroy` of its transport. With a socket of Node's, that is an end without a TCP reset, unless
 * something is unread; for one, give the transport a `destroy` that calls `resetAndDestroy`.
 *
 * Some clients make connections that they do not use, Node's own is one: `open` should give one from which something comes.
 *
 * **Example** (A client of somebody else)
 *
 * ```ts
 * import { NodeTransport } from "@effect-ws/node"
 * import { ClientHandshakeConformance, Conformance } from "@effect-ws/test-kit"
 * import { Console, Effect } from "effect"
 * import type * as Net from "node:net"
 * import { WebSocket } from "ws"
 *
 * const endpointAt = (listening: Net.Server, port: number) =>
 *   ClientHandshakeConformance.overTransport({
 *     url: `ws://localhost:${port}`,
 *     hasLimits: true,
 *     deflate: [false, true],
 *     open: ({ deflate, handshakeMillis, subprotocols, url }) =>
 *       Effect.callback((resume) => {
 *         listening.once("connection", (socket) => resume(Effect.succeed(NodeTransport.fromSocket(socket))))
 *         const client = new WebSocket(url, [...subprotocols], {
 *           perMessageDeflate: deflate,
 *           ...(handshakeMillis !== undefined && { handshakeTimeout: handshakeMillis })
 *         })
 *         client.on("error", () => {})
 *         client.on("message", (data, isBinary) => client.send(data, { binary: isBinary }))
 *       })
 *   })
 *
 * const program = Effect.fnUntraced(function*(listening: Net.Server, port: number) {
 *   const results = yield* ClientHandshakeConformance.run(endpointAt(listening, port))
 *   yield* Console.log(Conformance.report(results))
 * })
 * ```
 *
 * @category endpoints
 * @since 0.1.0
 */
export const overTransport = <E, R>({ open, ...endpoint }: {
  readonly url: string
  readonly hasLimits: boolean
  readonly deflate: ReadonlyArray<boolean>
  readonly open: (connecting: Connecting) => Effect.Effect<Transport, E, R>
}): Endpoint<E, R> => ({
  ...endpoint,
  carriesBytes: true,
  attempt: Effect.fnUntraced(function*(connecting) {
    const transport = yield* Effect.acquireRelease(
      open(connecting),
      (transport) => Effect.sync(() => transport.destroy()),
      // A client may never come.
      { interruptible: true }
    )
    const reader = new HttpReader(transport)
    const { head } = reader
    return {
      request: Effect.map(head, (head) => head && { ...requestLine(head.startLine), headers: head.headers }),
      respond: Effect.fnUntraced(function*(answer) {
        const asked = yield* head
        if (asked === undefined) return yield* Effect.die(new Error("there is no request to be answered"))
        const { cuts = [], ending, text, upTo } = answer._tag === "Bytes"
          ? answer
          : { ...wholly, text: headOf(answer.headers) }
        const bytes = Uint8Array.from(
          fill(text, asked.headers).slice(0, upTo),
          (character) => character.charCodeAt(0)
        )
        for (const [i, at] of [0, ...cuts].entries()) {
          // What is sent at once arrives in one piece.
          if (i > 0) yield* sleep(1)
          yield* inTime(reader.send(bytes.subarray(at, cuts[i])))
        }
        if (ending === "End") transport.end()
        if (ending === "Reset") transport.destroy()
        return yield* WebSocketProbe.make(asked.transport, "server")
      })
    }
  })
})

/**
 * The client in the `TestNetwork`. It sends messages back by itself.
 *
 * @category endpoints
 * @since 0.1.0
 */
export const inNetwork: Effect.Effect<Endpoint, never, TestNetwork | WebSocketClient.WebSocketClient> = Effect.gen(
  function*() {
    const network = yield* TestNetwork
    const client = yield* WebSocketClient.WebSocketClient
    return {
      url: "ws://server.test",
      hasLimits: false,
      deflate: network.compression === undefined ? [false] : [false, true],
      carriesBytes: false,
      attempt: Effect.fnUntraced(function*({ deflate, subprotocols, url }) {
        const upgrades = yield* Queue.unbounded<Upgrade>()
        yield* network.listen({
          host: "server.test",
          port: 80,
          upgrade: (upgrade) => Queue.offerUnsafe(upgrades, upgrade)
        })
        yield* client.connect(url, { subprotocols, deflate, heartbeat: false }).pipe(
          Effect.tap((connection) => Effect.addFinalizer(() => connection.abort)),
          Effect.flatMap(({ messages, send }) => Stream.runForEach(messages, send)),
          Effect.ignore,
          Effect.forkScoped
        )
        const upgrade = yield* Queue.take(upgrades)
        const headers = linesOf(upgrade.rawHeaders)
        return {
          request: Effect.succeed({
            method: upgrade.method,
            target: upgrade.url,
            version: upgrade.httpVersion,
            headers
          }),
          respond: (answer) =>
            Effect.suspend(() => {
              if (answer._tag === "Bytes") return Effect.die(new Error("a TestNetwork carries answers, not bytes"))
              const filled = answer.headers.map(([name, value]) => [name, fill(value, headers)])
              return WebSocketProbe.make(upgrade.accept(Handshake.headersOf(filled.flat())), "server")
            })
        }
      })
    }
  }
)

/**
 * Holds a client against the rules, one after the other: all {@link rules}, or those given. `Conformance.report` shows the
 * results.
 *
 * **Details**
 *
 * After each, the client has to connect again as if nothing had happened: its message comes back.
 *
 * @category running
 * @since 0.1.0
 */
export const run: <E, R>(
  endpoint: Endpoint<E, R>,
  tables?: Readonly<Record<string, ReadonlyArray<ClientHandshakeRule>>>
) => Effect.Effect<ReadonlyArray<Result>, E, Exclude<R, Scope.Scope>> = Effect.fnUntraced(
  function*(endpoint, tables = rules) {
    const results: Array<Result> = []
    for (const [topic, table] of Object.entries(tables)) {
      for (const rule of table) {
        if (!isApplicable(rule, endpoint)) {
          results.push({ topic, rule, _tag: "Skipped" })
          continue
        }
        const detail = (yield* check(rule, endpoint)) ?? (yield* check(another, endpoint))
        results.push(detail === undefined ? { topic, rule, _tag: "Passed" } : { topic, rule, _tag: "Failed", detail })
      }
    }
    return results
  }
)

const isApplicable = <E, R>(rule: ClientHandshakeRule, endpoint: Endpoint<E, R>): boolean => {
  const { deflate, handshakeMillis } = rule.connecting ?? {}
  return (deflate === undefined || endpoint.deflate.includes(deflate)) &&
    (handshakeMillis === undefined || endpoint.hasLimits) &&
    (rule._tag === "Request" || rule.answer._tag === "Switch" || endpoint.carriesBytes)
}

const another: ClientHandshakeRule = {
  section: "4.1",
  title: "the next connection",
  _tag: "Response",
  answer: { _tag: "Switch", headers: switching() },
  outcome: connects()
}

const check = <E, R>(rule: ClientHandshakeRule, { attempt, deflate, url }: Endpoint<E, R>) =>
  Effect.scoped(Effect.gen(function*() {
    const connecting: Connecting = {
      subprotocols: [],
      deflate: deflate[0] ?? false,
      handshakeMillis: undefined,
      ...rule.connecting,
      url: url + (rule.connecting?.url ?? "")
    }
    const ask = Effect.gen(function*() {
      const attempted = yield* inTime(attempt(connecting))
      if (attempted._tag === "None") return undefined
      const { request, respond } = attempted.value
      const asked = yield* inTime(request)
      return asked._tag === "None" || asked.value === undefined ? undefined : { request: asked.value, respond }
    })
    if (rule._tag === "Request") {
      const first = yield* Effect.scoped(ask)
      if (first === undefined) return noRequest
      const next = yield* Effect.scoped(ask)
      return next === undefined ? noRequest : rule.faultOf(first.request, next.request, connecting)
    }
    const asked = yield* ask
    if (asked === undefined) return noRequest
    const probe = yield* asked.respond(rule.answer)
    const fault = yield* faultOf(rule, probe, connecting.deflate)
    if (fault === undefined) return undefined
    const transcript = Transcript.format(yield* probe.transcript)
    return transcript === "" ? fault : `${fault}\n${transcript}`
  }))

const faultOf = Effect.fnUntraced(function*(
  { answer, outcome }: ClientHandshakeRule & { readonly _tag: "Response" },
  probe: WebSocketProbe.WebSocketProbe,
  isCompressed: boolean
) {
  // The next message: frames that are compressed are not read here.
  const comesBack = Effect.fnUntraced(function*(text: string) {
    yield* probe.expectText(isCompressed ? undefined : text)
  })
  // What the client sends, or the end.
  const next = probe.frame.pipe(
    Effect.map((frame) => `it sent ${Transcript.formatFrame(frame)}`),
    Effect.catch(() => Effect.succeed(ended))
  )
  switch (outcome._tag) {
    case "Connected":
      return yield* Effect.forEach(outcome.messages, comesBack, { discard: true }).pipe(
        Effect.andThen(probe.sendText(greeting)),
        Effect.andThen(comesBack(greeting)),
        Effect.as(undefined),
        Effect.catch(({ actual, expected }) => Effect.succeed(`expected ${expected}, but ${actual}`))
      )
    case "Refused":
    case "Either": {
      // Whoever has taken the answer sends it back. Behind other bytes, it might complete them.
      if (answer._tag === "Switch" || outcome._tag === "Either") yield* probe.sendText(greeting)
      const came = yield* inTime(next)
      if (came._tag === "None") return "the connection does not come to its end"
      return came.value === ended || outcome._tag === "Either" ? undefined : came.value
    }
    case "Over": {
      const end = yield* inTime(Effect.repeat(next, { until: (came) => came === ended }))
      return end._tag === "None" ? "the connection does not come to its end" : undefined
    }
  }
})

const noRequest = "there was no request"
const greeting = "still there?"
const ended = "the end"

const wholly = { upTo: undefined, cuts: [], ending: "Wait" } as const

const requestLine = (line: string) => {
  const [method = "", target, version = "", ...rest] = line.split(" ")
  const isRight = rest.length === 0 && version.startsWith("HTTP/")
  return isRight ? { method, target, version: version.slice(5) } : { method: line, target: undefined, version: "" }
}

const linesOf = (rawHeaders: ReadonlyArray<string>): Lines =>
  Array.from({ length: rawHeaders.length / 2 }, (_, i) => [rawHeaders[2 * i]!, rawHeaders[2 * i + 1]!] as const)

// What is different for each key.
const fill = (text: string, headers: Lines): string => {
  const key = headers.find(([name]) => name.toLowerCase() === "sec-websocket-key")?.[1] ?? ""
  return text.replaceAll("{accept}", Handshake.acceptFor(key, sha1)).replaceAll("{key}", key)
}
