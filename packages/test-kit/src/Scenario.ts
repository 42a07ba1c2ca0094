/**
 * What happens in a simulation, as data.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type { Behaviour, Direction } from "./TestLink.ts"

/**
 * Clients, what either side of their connections does, and what the network does meanwhile.
 *
 * **Details**
 *
 * `limit` is the longest message that the connections take, in bytes; `queue` the most that waits to be sent; `receive` the
 * receive buffer. `link` is how links begin; whatever happens to them, they are healed after 30 seconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface Scenario {
  readonly seed: number
  readonly limit: number
  readonly queue: number
  readonly receive: number
  readonly link: Partial<Behaviour>
  readonly clients: ReadonlyArray<{ readonly client: Plan; readonly server: Plan }>
  readonly faults: ReadonlyArray<Fault>
}

/**
 * What one side of a connection does: its senders work side by side, each step after step; then it waits for the others,
 * unless it is `hasty`; then it ends the connection. It reads all the time, with a pause of `readEvery` milliseconds after
 * each message.
 *
 * @category models
 * @since 0.1.0
 */
export interface Plan {
  readonly senders: ReadonlyArray<ReadonlyArray<Step>>
  readonly readEvery: number
  readonly hasty: boolean
  readonly end:
    | { readonly _tag: "Close"; readonly code: number }
    | { readonly _tag: "Return" }
    | { readonly _tag: "Abort" }
    | { readonly _tag: "Await" }
}

/**
 * A step of a sender. `Oversize` sends a message that is a byte too long, for which the other side has to close with 1009.
 *
 * @category models
 * @since 0.1.0
 */
export type Step =
  | { readonly _tag: "Send"; readonly bytes: number; readonly binary: boolean }
  | { readonly _tag: "SendFragments"; readonly bytes: ReadonlyArray<number> }
  | { readonly _tag: "Ping" }
  | { readonly _tag: "Wait"; readonly millis: number }
  | { readonly _tag: "PauseReading"; readonly millis: number }
  | { readonly _tag: "Oversize" }

/**
 * What happens to the link of a client, or to all, at a time in milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export type Fault =
  | {
    readonly _tag: "Set"
    readonly at: number
    readonly client: number | undefined
    readonly direction: Direction | undefined
    readonly behaviour: Partial<Behaviour>
  }
  | { readonly _tag: "Reset"; readonly at: number; readonly client: number | undefined }

/**
 * When all links are healed, in milliseconds.
 *
 * @category models
 * @since 0.1.0
 */
export const healedAt = 30_000

/**
 * Makes the scenario of a seed: always the same.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (seed: number): Effect.Effect<Scenario> =>
  Effect.service(Random.Random).pipe(
    Random.withSeed(seed),
    Effect.map((random) => new Dice(random).scenario(seed))
  )

class Dice {
  private readonly random: Random.Random
  // A long message in single bytes would take long, in real time.
  private smallestChunk = 1

  constructor(random: Random.Random) {
    this.random = random
  }

  scenario(seed: number): Scenario {
    const limit = this.pick([130, 130, 1000, 1000, 2000, 70_000])
    this.smallestChunk = limit > 2000 ? 1000 : 1
    const clients = this.list(1, 3, () => ({ client: this.plan(limit), server: this.plan(limit) }))
    const isCalm = this.chance(0.4)
    return {
      seed,
      limit,
      queue: this.pick([200, 2000, 100_000]),
      receive: this.pick([1, 500, 65_536]),
      link: { ...this.slowness(), bufferBytes: this.pick([0, 10, 1000, 65_536]) },
      clients,
      faults: isCalm
        ? this.list(0, 3, () => this.set(clients.length, this.slowness()))
        : this.list(1, 4, () => this.fault(clients.length))
    }
  }

  private plan(limit: number): Plan {
    return {
      senders: this.list(0, 2, () => this.list(1, 6, () => this.step(limit))),
      readEvery: this.pick([0, 0, 0, 10, 100]),
      hasty: this.chance(0.2),
      end: this.pick<Plan["end"]>([
        { _tag: "Close", code: this.pick([1000, 1001, 3000, 4999]) },
        { _tag: "Close", code: 1000 },
        { _tag: "Await" },
        { _tag: "Await" },
        { _tag: "Return" },
        { _tag: "Abort" }
      ])
    }
  }

  private step(limit: number): Step {
    const bytes = () => this.pick([this.int(0, 130), this.int(0, limit), limit])
    const roll = this.int(0, 19)
    if (roll < 10) return { _tag: "Send", bytes: bytes(), binary: this.chance(0.5) }
    if (roll < 13) {
      const first = Math.floor(bytes() / 2)
      return { _tag: "SendFragments", bytes: [first, ...this.list(0, 2, () => this.int(0, Math.floor(limit / 5)))] }
    }
    if (roll < 15) return { _tag: "Ping" }
    if (roll < 18) return { _tag: "Wait", millis: this.pick([1, 100, 5000]) }
    return roll < 19 || this.chance(0.6) ? { _tag: "PauseReading", millis: this.pick([10, 300]) } : { _tag: "Oversize" }
  }

  // What delays bytes and harms nobody.
  private slowness(): Partial<Behaviour> {
    return {
      latency: this.pick([0, 1, 20, 200]),
      jitter: this.pick([0, 0, 5, 300]),
      bytesPerSecond: this.pick([Infinity, Infinity, 200_000]),
      chunkBytes: this.pick([
        Infinity,
        1400,
        { min: this.smallestChunk, max: this.smallestChunk + 40 },
        this.smallestChunk
      ])
    }
  }

  private fault(clients: number): Fault {
    const client = this.chance(0.3) ? undefined : this.int(0, clients - 1)
    if (this.chance(0.1)) return { _tag: "Reset", at: this.time(), client }
    return this.set(
      clients,
      this.pick<() => Partial<Behaviour>>([
        () => this.slowness(),
        () => ({ flow: this.pick(["stalled", "cut"] as const) }),
        () => ({ flow: "open" }),
        () => ({ swallow: [this.pick([0x8, 0xa])] }),
        () => ({ resetAfter: this.int(0, 3000) }),
        () => ({ [this.pick(["corrupt", "duplicate", "truncate"])]: this.pick([0.01, 0.3]) })
      ])()
    )
  }

  private set(clients: number, behaviour: Partial<Behaviour>): Fault {
    return {
      _tag: "Set",
      at: this.time(),
      client: this.chance(0.3) ? undefined : this.int(0, clients - 1),
      direction: this.pick([undefined, "toServer", "toClient"] as const),
      behaviour
    }
  }

  private time(): number {
    return this.pick([this.int(0, 50), this.int(0, 1000), this.int(0, 20_000)])
  }

  private int(min: number, max: number): number {
    return min + Math.floor(this.random.nextDoubleUnsafe() * (max - min + 1))
  }

  private chance(probability: number): boolean {
    return this.random.nextDoubleUnsafe() < probability
  }

  private pick<A>(choices: ReadonlyArray<A>): A {
    return choices[this.int(0, choices.length - 1)]!
  }

  private list<A>(min: number, max: number, make: () => A): Array<A> {
    return Array.from({ length: this.int(min, max) }, make)
  }
}

/**
 * The scenarios that are a little smaller: a client less, a sender, a step or a fault.
 *
 * @category combinators
 * @since 0.1.0
 */
export const smaller = (scenario: Scenario): ReadonlyArray<Scenario> => {
  const but = (changed: Partial<Scenario>): Scenario => ({ ...scenario, ...changed })
  const fewerClients = without(scenario.clients).filter((clients) => clients.length > 0)
  const fewerSteps = scenario.clients.flatMap((pair, i) =>
    (["client", "server"] as const).flatMap((side) =>
      smallerSenders(pair[side].senders).map((senders) =>
        scenario.clients.with(i, Object.assign({}, pair, { [side]: Object.assign({}, pair[side], { senders }) }))
      )
    )
  )
  return [
    ...fewerClients.map((clients) => but({ clients })),
    ...without(scenario.faults).map((faults) => but({ faults })),
    ...fewerSteps.map((clients) => but({ clients }))
  ]
}

const without = <A>(items: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> =>
  items.map((_, i) => items.toSpliced(i, 1))

const smallerSenders = (senders: Plan["senders"]): ReadonlyArray<Plan["senders"]> => [
  ...without(senders),
  ...senders.flatMap((steps, i) => without(steps).map((fewer) => senders.with(i, fewer)))
]
