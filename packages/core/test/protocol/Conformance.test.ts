import { maxReasonBytes } from "@effect-ws/core/protocol/CloseFrame"
import { type ControlEvent, Engine } from "@effect-ws/core/protocol/Engine"
import type { Role } from "@effect-ws/core/protocol/Frame"
import type { ProtocolViolation } from "@effect-ws/core/protocol/ProtocolViolation"
import * as Utf8 from "@effect-ws/core/protocol/Utf8"
import { rules } from "@effect-ws/test-kit/Conformance"
import {
  type Event,
  type Limits,
  type Outcome,
  ping,
  pinged,
  type Rule,
  text
} from "@effect-ws/test-kit/ConformanceRule"
import * as Wire from "@effect-ws/test-kit/Wire"
import { assert, describe, it } from "@effect/vitest"
import { createHash } from "node:crypto"
import { between, concat, Cuts, splitAt } from "./chunks.ts"

type Split = (bytes: Uint8Array) => ReadonlyArray<Uint8Array>

// What happens to the endpoint, with the peer's frames joined to stretches of bytes.
type Act =
  | { readonly _tag: "Arrive"; readonly bytes: Uint8Array }
  | { readonly _tag: "SendClose" }
  | { readonly _tag: "Wait"; readonly millis: number }

const defaults: Limits = { maxMessageBytes: 1024 * 1024, maxFragments: 1024, maxControlFramesPerSecond: 100 }

const peerOf = (role: Role): Role => role === "server" ? "client" : "server"

const whole: Split = (bytes) => [bytes]
const byteByByte: Split = (bytes) => Array.from(bytes, (byte) => Uint8Array.of(byte))

const actsOf = ({ steps }: Rule, role: Role): Array<Act> => {
  const acts: Array<Act> = []
  let arriving: Array<Uint8Array> = []
  const arrive = () => {
    if (arriving.length > 0) acts.push({ _tag: "Arrive", bytes: concat(arriving) })
    arriving = []
  }
  for (const step of steps) {
    if (step._tag === "Frame") {
      arriving.push(Wire.encode(peerOf(role), [step]))
    } else if (step._tag === "Bytes") {
      arriving.push(Uint8Array.from(step.bytes))
    } else if (step._tag !== "Flood") {
      arrive()
      acts.push(step)
    }
  }
  arrive()
  return acts
}

class Endpoint {
  readonly engine: Engine
  readonly violations: Array<ProtocolViolation> = []
  private readonly events: Array<Event> = []
  private now = 1_000_000

  constructor(rule: Rule, role: Role) {
    this.engine = new Engine({ role, limits: { ...defaults, ...rule.limits }, utf8: Utf8.portable })
  }

  play(acts: ReadonlyArray<Act>, split: Split): void {
    for (const act of acts) {
      switch (act._tag) {
        case "Arrive":
          for (const chunk of split(act.bytes)) this.receive(chunk)
          break
        case "SendClose":
          this.engine.sendClose({ code: 1000, reason: "" })
          break
        case "Wait":
          this.now += act.millis
      }
    }
  }

  // The engine overwrites what it is given.
  private receive(chunk: Uint8Array): void {
    for (const event of this.engine.receive(chunk.slice(), this.now)) this.record(event)
  }

  private record(event: ControlEvent): void {
    if (event._tag === "Violation") {
      this.violations.push(event.violation)
      this.events.push({ _tag: "Violation", closeCode: event.violation.closeCode, reply: event.reply })
    } else if (event._tag === "Close") {
      this.events.push({ _tag: "Close", ...event.close })
    } else {
      this.events.push(event)
    }
  }

  outcome(): Outcome {
    return {
      messages: this.engine.takeMessages() ?? [],
      events: this.events.splice(0),
      state: this.engine.state._tag
    }
  }
}

// Bytes as text, by which a long message is told apart from another without a page of numbers.
const told = (outcome: Outcome) => ({
  ...outcome,
  messages: outcome.messages.map((message) => typeof message === "string" ? message : toldBytes(message))
})

const toldBytes = (bytes: Uint8Array) => {
  const hex = Buffer.from(bytes).toString("hex")
  return { length: bytes.length, hex: hex.length <= 400 ? hex : createHash("sha1").update(bytes).digest("hex") }
}

const assertOutcome = (endpoint: Endpoint, { outcome, title }: Rule) =>
  assert.deepStrictEqual(told(endpoint.outcome()), told(outcome), title)

const play = (rule: Rule, role: Role, acts: ReadonlyArray<Act>, split: Split): Endpoint => {
  const endpoint = new Endpoint(rule, role)
  endpoint.play(acts, split)
  return endpoint
}

const dropLastByte = (acts: ReadonlyArray<Act>): Array<Act> =>
  acts.map((act, i) =>
    act._tag === "Arrive" && i === acts.length - 1 ? { ...act, bytes: act.bytes.subarray(0, -1) } : act
  )

// Whatever a rule leads to, what comes next has to be treated as the state demands.
const assertStaysIn = (endpoint: Endpoint, role: Role, state: Outcome["state"]) => {
  const isReading = state === "Open" || state === "CloseSent"
  const probes = [ping("still"), ...(isReading ? [] : [text("there")])]
  const bytes = Wire.encode(peerOf(role), probes)
  endpoint.play([{ _tag: "Wait", millis: 1000 }, { _tag: "Arrive", bytes }], whole)
  assert.deepStrictEqual(endpoint.outcome(), {
    messages: [],
    events: isReading ? [pinged("still", state === "Open")] : [],
    state
  })
}

// A violation names the section it breaks, and is told to the peer as the reason of a Close.
const assertTells = ({ _tag, closeCode, detail, section }: ProtocolViolation, rule: Rule) => {
  assert.strictEqual(section, rule.section)
  assert.strictEqual(_tag, tags[closeCode])
  assert.isAtMost(Utf8.portable.byteLength(detail), maxReasonBytes)
}

const tags: Record<number, ProtocolViolation["_tag"]> = {
  1002: "ProtocolError",
  1007: "InvalidPayload",
  1008: "LimitExceeded",
  1009: "LimitExceeded"
}

const check = (rule: Rule, role: Role) => {
  const acts = actsOf(rule, role)
  const isViolated = rule.outcome.state === "Failed"

  for (const split of [whole, byteByByte]) {
    const endpoint = play(rule, role, acts, split)
    assertOutcome(endpoint, rule)
    assert.strictEqual(endpoint.violations.length, isViolated ? 1 : 0)
    for (const violation of endpoint.violations) assertTells(violation, rule)
    assertStaysIn(endpoint, role, rule.outcome.state)
  }

  // The last byte tells, no later one and no earlier one.
  if (isViolated) assert.notStrictEqual(play(rule, role, dropLastByte(acts), whole).engine.state._tag, "Failed")

  // Every way to cut in two, where these are not too many.
  const longest = Math.max(...acts.map((act) => act._tag === "Arrive" ? act.bytes.length : 0))
  for (let at = 1; at < Math.min(longest, 300); at++) {
    assertOutcome(play(rule, role, acts, (bytes) => splitAt(bytes, [at])), rule)
  }
}

const cases = Object.entries(rules).flatMap(([topic, table]) =>
  table.flatMap((rule) =>
    (rule.role === undefined ? ["server", "client"] as const : [rule.role]).map((role) => ({ topic, rule, role }))
  )
)

describe("Conformance", () => {
  for (const topic of Object.keys(rules)) {
    describe(topic, () => {
      for (const { role, rule } of cases.filter((each) => each.topic === topic)) {
        it(`§${rule.section}: ${rule.title} (${role})`, () => check(rule, role))
      }
    })
  }

  it.prop("§5.2: any split of the same bytes gives the same result", {
    index: between(0, cases.length - 1),
    cuts: Cuts
  }, ({ cuts, index }) => {
    const { role, rule } = cases[index]!
    assertOutcome(play(rule, role, actsOf(rule, role), (bytes) => splitAt(bytes, cuts)), rule)
  }, { arbitrary: { runs: 1000, size: 20 } })
})
