/**
 * The two sides of a simulated connection, and what they have seen.
 *
 * @since 0.1.0
 */
import type { CloseEvent } from "@effect-ws/core/CloseEvent"
import type { Connection } from "@effect-ws/core/Connection"
import type { Message } from "@effect-ws/core/Message"
import type { ConnectionError, SendError } from "@effect-ws/core/WebSocketError"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Plan, Scenario, Step } from "../Scenario.ts"

/** An invariant that does not hold. */
export interface Broken {
  readonly invariant: string
  readonly detail: string
}

const encoder = new TextEncoder()

// Every message tells who sent it and when, and fills the bytes it is to have.
const contentOf = (sender: string, index: number, bytes: number): string => {
  const head = `${sender}/${index}:`
  return bytes < head.length ? head : head.padEnd(bytes, String.fromCharCode(97 + (index % 26)))
}

/** One side of a connection. */
export class Side {
  readonly name: string
  readonly plan: Plan
  readonly scenario: Scenario
  readonly broken: Array<Broken> = []
  /** For each sender, the messages whose sending succeeded, and the one more whose sending may be under way. */
  readonly sent: Array<{ accepted: Array<string>; attempted: string | undefined }>
  readonly received: Array<Message> = []
  /** Done when the senders are. */
  readonly quiet = Deferred.makeUnsafe<void>()

  connection: Connection | undefined
  error: ConnectionError | undefined
  event: CloseEvent | undefined
  hasReadToTheEnd = false
  /** Whether it returned, and what it has not read by then is dropped. */
  hasLeft = false

  constructor(name: string, plan: Plan, scenario: Scenario) {
    this.name = name
    this.plan = plan
    this.scenario = scenario
    this.sent = plan.senders.map(() => ({ accepted: [], attempted: undefined }))
  }

  /** Lives through the plan on a connection; its end waits for `goOn`. */
  live(connection: Connection, goOn: Effect.Effect<void>): Effect.Effect<void, never, Scope.Scope> {
    this.connection = connection
    return Effect.gen({ self: this }, function*() {
      const reading = yield* Effect.forkChild(this.read(connection))
      yield* Effect.forEach(this.plan.senders, (steps, i) => Effect.ignore(this.send(connection, steps, i)), {
        concurrency: "unbounded",
        discard: true
      })
      yield* Deferred.succeed(this.quiet, undefined)
      const { end, hasty } = this.plan
      if (!hasty) yield* Effect.raceFirst(goOn, connection.closed)
      if (end._tag === "Return") {
        this.hasLeft = true
        return
      }
      if (end._tag === "Abort") yield* connection.abort
      if (end._tag === "Close") yield* Effect.orDie(connection.close(end.code, this.name))
      yield* connection.closed
      yield* Fiber.join(reading)
    }).pipe(Effect.ensuring(Deferred.succeed(this.quiet, undefined)))
  }

  private get streams(): boolean {
    return this.plan.senders.some((steps) => steps.some(({ _tag }) => _tag === "SendFragments"))
  }

  private read(connection: Connection): Effect.Effect<void> {
    return connection.receive.pipe(
      Effect.tap((message) => {
        this.received.push(message)
        return this.plan.readEvery === 0 ? Effect.void : Effect.sleep(this.plan.readEvery)
      }),
      Effect.forever,
      Effect.catch((end: ConnectionError | Cause.Done) =>
        Effect.sync(() => {
          this.hasReadToTheEnd = true
          if (!Cause.isDone(end)) this.error = end
        })
      )
    )
  }

  private send(connection: Connection, steps: ReadonlyArray<Step>, sender: number): Effect.Effect<void, SendError> {
    const log = this.sent[sender]!
    const name = `${this.name}.${sender}`
    const sending = Effect.fnUntraced({ self: this }, function*(
      text: string,
      send: Effect.Effect<void, SendError>
    ) {
      log.attempted = text
      yield* send
      log.accepted.push(text)
      log.attempted = undefined
      yield* this.checkQueue(connection)
    })
    return Effect.forEach(steps, (step, index) => {
      switch (step._tag) {
        case "Wait":
          return Effect.sleep(step.millis)
        case "Ping":
          return Effect.asVoid(connection.ping)
        case "PauseReading":
          return Effect.andThen(connection.pause, Effect.ensuring(Effect.sleep(step.millis), connection.resume))
        case "Oversize":
          // Accepted by our queue, but never by the other side.
          return connection.send("!".repeat(this.scenario.limit + 1))
        case "Send": {
          const text = contentOf(name, index, step.bytes)
          return sending(text, connection.send(step.binary ? encoder.encode(text) : text))
        }
        case "SendFragments": {
          const [first = 0, ...rest] = step.bytes
          const fragments = [contentOf(name, index, first), ...rest.map((bytes) => "~".repeat(bytes))]
          const text = fragments.join("").slice(0, this.scenario.limit)
          const cut = Math.min(text.length, fragments[0]!.length)
          return sending(text, connection.sendStream(Stream.make(text.slice(0, cut), text.slice(cut))))
        }
      }
    }, { discard: true })
  }

  // A send suspends rather than let the queue grow. The bound gives way to one message of any length, and to another
  // behind a streamed one; control frames have a bound of their own.
  private checkQueue(connection: Connection): Effect.Effect<void> {
    return Effect.map(connection.queuedBytes, (queued) => {
      const longest = this.scenario.limit + 15
      const bound = Math.max(this.scenario.queue, longest) + (this.streams ? longest : 0) + 65 * 139
      if (queued > bound) this.break("sends suspend rather than grow", `${queued} bytes are queued, ${bound} may be`)
    })
  }

  break(invariant: string, detail: string): void {
    this.broken.push({ invariant, detail: `${this.name}: ${detail}` })
  }
}

/** What one side has received of what the other has sent. */
export const checkReceived = (from: Side, to: Side, options: { readonly all: boolean }): void => {
  const texts = to.received.map((message) => typeof message === "string" ? message : new TextDecoder().decode(message))
  for (const [i, { accepted, attempted }] of from.sent.entries()) {
    const prefix = `${from.name}.${i}/`
    const received = texts.filter((text) => text.startsWith(prefix))
    const sent = attempted === undefined ? accepted : [...accepted, attempted]
    const at = received.findIndex((text, n) => text !== sent[n])
    if (at >= 0) {
      const place = sent.indexOf(received[at]!)
      const what = place === -1 ? "was never sent like that" : place < at ? "came twice" : `is ${place - at} too early`
      to.break("nothing is lost, duplicated, reordered or changed", `message ${at} of ${prefix} ${what}`)
    } else if (options.all && received.length < accepted.length) {
      const detail = `${accepted.length - received.length} of ${accepted.length} messages of ${prefix} are missing`
      to.break("nothing is lost, duplicated, reordered or changed", detail)
    }
  }
  const strange = texts.find((text) => !from.sent.some((_, i) => text.startsWith(`${from.name}.${i}/`)))
  if (strange !== undefined) {
    to.break("nothing is received that was not sent", `${strange.length} characters: ${strange.slice(0, 20)}`)
  }
}
