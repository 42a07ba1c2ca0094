/**
 * Whether an endpoint keeps RFC 6455, and withstands who does not.
 *
 * @since 0.1.0
 */
import { isControl, Opcode, type Role } from "@effect-ws/core/protocol/Frame"
import type { Transport } from "@effect-ws/core/Transport"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { ClientHandshakeRule } from "./ClientHandshakeRule.ts"
import type { Limits, Rule, Step } from "./ConformanceRule.ts"
import type { HandshakeRule } from "./HandshakeRule.ts"
import { hostile } from "./internal/conformance/attacks.ts"
import { closing } from "./internal/conformance/closing.ts"
import { control } from "./internal/conformance/control.ts"
import { fragmentation } from "./internal/conformance/fragmentation.ts"
import { framing } from "./internal/conformance/framing.ts"
import { limited } from "./internal/conformance/limits.ts"
import { textual } from "./internal/conformance/text.ts"
import { concat } from "./internal/frameScanner.ts"
import { patience, sleep } from "./internal/realTime.ts"
import * as Transcript from "./Transcript.ts"
import * as WebSocketProbe from "./WebSocketProbe.ts"
import * as Wire from "./Wire.ts"

/**
 * The rules, by topic.
 *
 * @category rules
 * @since 0.1.0
 */
export const rules: Readonly<Record<string, ReadonlyArray<Rule>>> = {
  framing,
  fragmentation,
  control,
  textual,
  closing,
  limited
}

/**
 * What hostile peers try, under the limits that connections have by default: messages and fragments without end, floods,
 * peers that do not read, and what inflates.
 *
 * @category rules
 * @since 0.1.0
 */
export const attacks: Readonly<Record<string, ReadonlyArray<Rule>>> = { hostile }

/**
 * An endpoint to be held against the rules: one that sends every message back.
 *
 * **Details**
 *
 * `open` makes a new connection to it, after the handshake, and gives the other end of its transport. It is told the limits
 * that the rule at hand supposes; an endpoint `hasLimits` if it can keep to them, otherwise such rules are skipped. It is
 * also told whether to agree on permessage-deflate, without parameters; that is asked of an endpoint that `hasDeflate`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Endpoint<E = never, R = never> {
  readonly role: Role
  readonly hasLimits: boolean
  readonly hasDeflate?: boolean
  readonly open: (limits: Partial<Limits>, deflate: boolean) => Effect.Effect<Transport, E, R | Scope.Scope>
}

/**
 * What came of one rule.
 *
 * **Details**
 *
 * A rule is skipped if it is about what cannot be seen from outside (what an endpoint does after its own Close, and what
 * depends on the time), or about limits that the endpoint does not have.
 *
 * @category models
 * @since 0.1.0
 */
export type Result =
  & {
    readonly topic: string
    readonly rule: Rule | HandshakeRule | ClientHandshakeRule
  }
  & (
    | { readonly _tag: "Passed" }
    | { readonly _tag: "Skipped" }
    | { readonly _tag: "Failed"; readonly detail: string }
  )

/**
 * Holds an endpoint against the rules that bind its role, one after the other, each over a connection of its own: all
 * {@link rules}, or those given, such as {@link attacks}.
 *
 * **When to use**
 *
 * For a new `Transport`, a server or a client of one's own, or somebody else's. Over real sockets, run it on the real clock.
 *
 * **Details**
 *
 * What is seen from outside has to be right: the messages that come back, whole and in order; the Pongs, of which RFC 6455,
 * section 5.5.3, allows to leave out all but the last; the code of the Close that answers a Close or a broken rule. Once a
 * connection is closing, messages that were not sent back yet may be missing.
 *
 * **Example** (A connection as a server)
 *
 * ```ts
 * import { Connection } from "@effect-ws/core"
 * import { Conformance, TestLink } from "@effect-ws/test-kit"
 * import { Console, Effect, Stream } from "effect"
 *
 * const endpoint: Conformance.Endpoint = {
 *   role: "server",
 *   hasLimits: true,
 *   open: Effect.fnUntraced(function*(limits) {
 *     const link = yield* TestLink.make()
 *     const settings = yield* Connection.settings(limits)
 *     const connection = yield* Connection.make(link.server, settings, {
 *       handshake: {
 *         subprotocol: undefined,
 *         extensions: [],
 *         request: { url: "/", headers: {} },
 *         response: { status: 101, headers: {} }
 *       }
 *     })
 *     yield* Effect.forkScoped(
 *       Stream.runForEach(connection.messages, (message) => connection.send(message)).pipe(Effect.ignore)
 *     )
 *     return link.client
 *   })
 * }
 *
 * const program = Effect.flatMap(Conformance.run(endpoint), (results) => Console.log(Conformance.report(results)))
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const run: <E, R>(
  endpoint: Endpoint<E, R>,
  tables?: Readonly<Record<string, ReadonlyArray<Rule>>>
) => Effect.Effect<ReadonlyArray<Result>, E, R> = Effect.fnUntraced(
  function*(endpoint, tables = rules) {
    const results: Array<Result> = []
    for (const [topic, table] of Object.entries(tables)) {
      for (const rule of table) {
        if ((rule.role ?? endpoint.role) !== endpoint.role) continue
        if (!isApplicable(rule, endpoint)) {
          results.push({ topic, rule, _tag: "Skipped" })
          continue
        }
        const detail = yield* check(rule, endpoint)
        results.push(detail === undefined ? { topic, rule, _tag: "Passed" } : { topic, rule, _tag: "Failed", detail })
      }
    }
    return results
  }
)

/**
 * The results as a table: how many rules of each topic passed, and what is wrong where one did not.
 *
 * @category running
 * @since 0.1.0
 */
export const report = (results: ReadonlyArray<Result>): string => {
  const failed = results.filter((result) => result._tag === "Failed")
  const lines = Array.from(new Set(results.map(({ topic }) => topic)), (topic) => {
    const count = (tag: Result["_tag"]) =>
      String(results.filter((result) => result.topic === topic && result._tag === tag).length).padStart(4)
    return `${topic.padEnd(14)} ${count("Passed")} passed ${count("Failed")} failed ${count("Skipped")} skipped`
  })
  return [...lines, ...failed.map(({ detail, rule }) => `\n§${rule.section} ${rule.title}\n${detail}`)].join("\n")
}

const isApplicable = <E, R>(rule: Rule, endpoint: Endpoint<E, R>): boolean =>
  rule.steps.every(({ _tag }) => _tag === "Frame" || _tag === "Bytes" || _tag === "Flood") &&
  (rule.deflate !== true || endpoint.hasDeflate === true) &&
  (rule.limits === undefined || endpoint.hasLimits)

const check = <E, R>(rule: Rule, endpoint: Endpoint<E, R>): Effect.Effect<string | undefined, E, R> =>
  Effect.scoped(Effect.gen(function*() {
    const role = endpoint.role === "server" ? "client" : "server"
    const probe = yield* WebSocketProbe.make(yield* endpoint.open(rule.limits ?? {}, rule.deflate === true), role)
    for (const step of rule.steps) {
      if (step._tag === "Frame") yield* probe.send(step)
      if (step._tag === "Bytes") yield* probe.sendBytes(Uint8Array.from(step.bytes))
      if (step._tag === "Flood") {
        const fault = yield* flooded(probe, step)
        if (fault !== undefined) return fault
      }
    }
    const expected = expectationOf(rule)
    // One more message, to see that the connection is alive.
    if (expected.isAlive) yield* probe.sendText("")
    const seen = new Observation()
    const isComplete = yield* probe.frame.pipe(
      Effect.tap((frame) => Effect.sync(() => seen.add(frame))),
      Effect.repeat({ until: () => seen.meets(expected) }),
      Effect.as(true),
      Effect.catch(() => Effect.succeed(true)),
      Effect.raceFirst(Effect.as(patience, false)),
      Effect.when(Effect.sync(() => !seen.meets(expected)))
    )
    const fault = seen.faultOf(expected) ??
      (isComplete._tag === "Some" && !isComplete.value ? "nothing more came" : undefined)
    return fault && `${fault}\n${Transcript.format(yield* probe.transcript)}`
  }))

// What is wrong with how an endpoint takes a flood, if anything. A socket that takes nothing for half a second is full.
const flooded = Effect.fnUntraced(function*(
  probe: WebSocketProbe.WebSocketProbe,
  { bytes, frame: sent }: Step & { readonly _tag: "Flood" }
) {
  yield* probe.demand(0)
  let count = 0
  for (let quiet = 0; quiet < 500; quiet++) {
    while (!(yield* probe.isBlocked)) {
      if (count * sent.payload.length >= bytes) return `${bytes} bytes are taken from a peer that does not read`
      yield* probe.send(sent)
      count++
      quiet = 0
    }
    yield* sleep(1)
  }
  yield* probe.demand(Infinity)
  let received = 0
  while (received < count * sent.payload.length) {
    const frame = yield* probe.frame.pipe(
      Effect.asSome,
      Effect.catch(() => Effect.succeedNone),
      Effect.raceFirst(Effect.as(patience, Option.none()))
    )
    if (frame._tag === "None") return `${received} of ${count * sent.payload.length} bytes came back`
    if (isControl(frame.value.opcode)) continue
    for (const byte of frame.value.payload) {
      if (byte !== sent.payload[received % sent.payload.length]) return `byte ${received} came back as another`
      received++
    }
  }
  return undefined
})

// What has to be seen from outside.
interface Expectation {
  readonly messages: ReadonlyArray<string>
  readonly pongs: ReadonlyArray<string>
  readonly isAlive: boolean
  readonly closeCode: "None" | "Any" | number
}

const expectationOf = ({ outcome, steps }: Rule): Expectation => {
  const { events, state } = outcome
  const messages = outcome.messages.map((message) =>
    show(typeof message === "string" ? Wire.text(message) : Wire.binary(message))
  )
  const pongs = events.flatMap((event) => event._tag === "Ping" && event.reply ? [show(Wire.pong(event.payload))] : [])
  if (state === "Open") {
    const isAlive = isWhole(steps)
    return { messages: isAlive ? [...messages, show(Wire.text())] : messages, pongs, isAlive, closeCode: "None" }
  }
  // The answer to a Close repeats its code, if it has one; that to a broken rule tells which.
  const last = events.at(-1)
  const closeCode = last?._tag === "Violation" ? last.closeCode : last?._tag === "Close" ? last.code ?? "Any" : "Any"
  return { messages, pongs, isAlive: false, closeCode }
}

// Whether nothing is left unfinished, so that another message may follow.
const isWhole = (steps: Rule["steps"]): boolean => {
  const frames = steps.filter((step) => step._tag === "Frame")
  const last = frames.findLast(({ opcode }) => opcode <= Opcode.binary)
  return frames.length === steps.length && last?.fin !== false &&
    frames.every(({ announced, upTo }) => announced === undefined && upTo === undefined)
}

const show = (frame: Wire.Frame): string =>
  Transcript.formatFrame({ fin: true, rsv: 0, ...frame }, { maxBytes: Infinity })

// What an endpoint has sent.
class Observation {
  private readonly messages: Array<string> = []
  private readonly pongs: Array<string> = []
  private close: Transcript.Frame | undefined
  private partial: Array<Transcript.Frame> = []

  add(frame: Transcript.Frame): void {
    if (frame.opcode === Opcode.close) this.close = frame
    else if (frame.opcode === Opcode.pong) this.pongs.push(show(frame))
    else if (frame.opcode <= Opcode.binary) {
      this.partial.push(frame)
      if (!frame.fin) return
      const [{ opcode } = frame] = this.partial
      this.messages.push(show(Wire.frame(opcode, concat(this.partial.map(({ payload }) => payload)))))
      this.partial = []
    }
  }

  /** Whether all has been seen that there is to see. */
  meets(expected: Expectation): boolean {
    if (this.close !== undefined) return true
    return expected.closeCode === "None" && this.messages.length >= expected.messages.length &&
      (expected.pongs.length === 0 || this.pongs.at(-1) === expected.pongs.at(-1))
  }

  faultOf({ closeCode, messages, pongs }: Expectation): string | undefined {
    // Section 5.5.3: of several Pings, it is enough to answer the last.
    let from = 0
    for (const pong of this.pongs) {
      const at = pongs.indexOf(pong, from)
      if (at < 0) return `${pong} answers no Ping`
      from = at + 1
    }
    const wrong = this.messages.findIndex((message, i) => message !== messages[i])
    if (wrong >= 0) return `message ${wrong} came back as ${this.messages[wrong]}`
    if (closeCode === "None") {
      if (this.close !== undefined) return `the connection was closed: ${show(this.close)}`
      if (this.messages.length < messages.length) {
        return `${messages.length - this.messages.length} messages did not come back`
      }
      return pongs.length > 0 && this.pongs.length === 0 ? "no Ping was answered" : undefined
    }
    if (this.close === undefined) return "there was no Close"
    const { payload } = this.close
    const code = payload.length < 2 ? undefined : (payload[0]! << 8) | payload[1]!
    return closeCode === "Any" || code === closeCode ? undefined : `the Close has ${code}, not ${closeCode}`
  }
}
