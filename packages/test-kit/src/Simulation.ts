/**
 * Servers and clients under a faulty network, by the thousand, and what must hold whatever happens.
 *
 * @since 0.1.0
 */
import * as WebSocketClient from "@effect-ws/core/WebSocketClient"
import * as WebSocketServer from "@effect-ws/core/WebSocketServer"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { type Broken, checkReceived, Side } from "./internal/simulated.ts"
import * as SimulatedTime from "./internal/simulatedTime.ts"
import * as Scenario from "./Scenario.ts"
import { perfect, type TestLink } from "./TestLink.ts"
import * as TestNetwork from "./TestNetwork.ts"

/**
 * What is simulated beside the scenario.
 *
 * **Details**
 *
 * `wrap` is put around the transports of all connections, and `server` changes the options of the server: both are there
 * to break the engine on purpose, and to see that this is found out.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly wrap?: TestNetwork.NetworkOptions["wrap"]
  readonly server?: ((options: TestNetwork.ServerOptions) => TestNetwork.ServerOptions) | undefined
}

/**
 * An invariant does not hold. The message tells the seed, and the smallest scenario that was found to show it.
 *
 * @category errors
 * @since 0.1.0
 */
export class SimulationError extends Schema.TaggedError<SimulationError>(
  "@effect-ws/test-kit/Simulation/SimulationError"
)("SimulationError", {
  seed: Schema.Number,
  invariant: Schema.String,
  detail: Schema.String,
  scenario: Schema.String
}) {
  override get message() {
    return `seed ${this.seed}: it does not hold that ${this.invariant}\n${this.detail}\n${this.scenario}`
  }
}

/**
 * What a simulation has been through.
 *
 * @category models
 * @since 0.1.0
 */
export interface Report {
  readonly scenarios: number
  readonly connections: number
  readonly messages: number
  readonly virtualMillis: number
}

// Far beyond every timeout of a connection together.
const limitMillis = 30 * 60_000
// Twice as long as it takes to notice a dead peer.
const heartbeat = { interval: "5 seconds", timeout: "5 seconds" } as const
const calmMillis = 20_000
const closeMillis = 6000

/**
 * Runs one scenario, and checks what must hold after it.
 *
 * **Details**
 *
 * - While both sides of a connection live, what one has sent is received by the other: nothing lost, duplicated, reordered
 *   or changed. When they end, it is so up to that point, and wholly if the closing handshake was clean.
 * - Over a network that is only slow, nobody is dropped, every Ping is answered, and every closing handshake is completed.
 * - Neither side accuses the other of breaking a rule, unless it did, or the network garbled bytes.
 * - Sends suspend rather than let the queue grow beyond its bound.
 * - Every connection's `closed` resolves, on both sides, in time.
 * - Nothing is left: no link, no connection, no timer.
 *
 * Time is simulated and passes by itself; all chance comes from the scenario's seed. The same scenario does the same again.
 *
 * @category running
 * @since 0.1.0
 */
export const run: (
  scenario: Scenario.Scenario,
  options?: Options
) => Effect.Effect<Report, SimulationError> = Effect.fnUntraced(function*(scenario, options = {}) {
  const outcome = yield* attempt(scenario, options)
  const [broken] = outcome.broken
  if (broken !== undefined) return yield* errorOf(scenario, broken)
  return outcome.report
})

/**
 * Runs the scenarios of many seeds, one after the other, until one fails; that one is made as small as possible.
 *
 * **Details**
 *
 * The seeds are `from` (0 by default) and those after it. `onProgress` is run after each scenario. To see a failure again:
 * `Scenario.make(seed)`, then {@link run}.
 *
 * **Example** (A thousand scenarios)
 *
 * ```ts
 * import { Simulation } from "@effect-ws/test-kit"
 * import { Console, Effect } from "effect"
 *
 * const program = Effect.flatMap(Simulation.explore({ scenarios: 1000 }), (report) =>
 *   Console.log(`${report.messages} messages over ${report.connections} connections`)
 * )
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const explore: (
  options: Options & {
    readonly scenarios: number
    readonly from?: number | undefined
    readonly onProgress?: ((report: Report) => Effect.Effect<void>) | undefined
  }
) => Effect.Effect<Report, SimulationError> = Effect.fnUntraced(function*(options) {
  let total: Report = { scenarios: 0, connections: 0, messages: 0, virtualMillis: 0 }
  const from = options.from ?? 0
  for (let seed = from; seed < from + options.scenarios; seed++) {
    const scenario = yield* Scenario.make(seed)
    const { broken: [broken], report } = yield* attempt(scenario, options)
    if (broken !== undefined) return yield* shrink(scenario, broken, options)
    total = {
      scenarios: total.scenarios + 1,
      connections: total.connections + report.connections,
      messages: total.messages + report.messages,
      virtualMillis: total.virtualMillis + report.virtualMillis
    }
    if (options.onProgress !== undefined) yield* options.onProgress(total)
  }
  return total
})

// Takes away what the failure does not need, as long as the same invariant breaks.
const shrink = Effect.fnUntraced(function*(scenario: Scenario.Scenario, broken: Broken, options: Options) {
  let smallest = { scenario, broken }
  for (let found = true; found;) {
    found = false
    for (const smaller of Scenario.smaller(smallest.scenario)) {
      const outcome = yield* attempt(smaller, options)
      const again = outcome.broken.find(({ invariant }) => invariant === broken.invariant)
      if (again === undefined) continue
      smallest = { scenario: smaller, broken: again }
      found = true
      break
    }
  }
  return yield* errorOf(smallest.scenario, smallest.broken)
})

const errorOf = (scenario: Scenario.Scenario, { detail, invariant }: Broken): SimulationError =>
  new SimulationError({ seed: scenario.seed, invariant, detail, scenario: show(scenario) })

const show = (scenario: Scenario.Scenario): string =>
  JSON.stringify(scenario, (_, value: unknown) => value === Infinity ? "Infinity" : value, 1)

interface Outcome {
  readonly broken: ReadonlyArray<Broken>
  readonly report: Report
}

const attempt = Effect.fnUntraced(function*(scenario: Scenario.Scenario, options: Options) {
  const pairs = scenario.clients.map(({ client, server }, i) => ({
    client: new Side(`client${i}`, client, scenario),
    server: new Side(`server${i}`, server, scenario)
  }))
  const sides = pairs.flatMap(({ client, server }) => [client, server])
  const broken: Array<Broken> = []
  const rest = yield* SimulatedTime.run(
    play(scenario, options, pairs, broken).pipe(
      Effect.scoped,
      Effect.provide(
        TestNetwork.layerNetwork({ seed: scenario.seed, link: scenario.link, wrap: options.wrap })
      ),
      // What the handlers log is the fault of the network.
      Effect.provideService(References.MinimumLogLevel, "None")
    ),
    limitMillis
  )
  if (rest._tag === "Stuck") {
    const waiting = sides.filter(({ connection, event }) => connection !== undefined && event === undefined)
    broken.push({
      invariant: "every connection's closed resolves, on both sides",
      detail: `after ${rest.millis} ms nothing can happen; not closed: ${waiting.map(({ name }) => name).join(", ")}`
    })
  } else if (Exit.isFailure(rest.exit)) {
    broken.push({ invariant: "nothing dies", detail: Cause.pretty(rest.exit.cause) })
  } else if (rest.timers > 0) {
    broken.push({ invariant: "nothing is left", detail: `${rest.timers} timers are left` })
  }
  const report: Report = {
    scenarios: 1,
    connections: pairs.filter(({ client }) => client.connection !== undefined).length,
    messages: sides.reduce((sum, { received }) => sum + received.length, 0),
    virtualMillis: rest.millis
  }
  const outcome: Outcome = { broken: [...sides.flatMap(({ broken }) => broken), ...broken], report }
  return outcome
})

interface Pair {
  readonly client: Side
  readonly server: Side
}

const play = Effect.fnUntraced(function*(
  scenario: Scenario.Scenario,
  options: Options,
  pairs: ReadonlyArray<Pair>,
  broken: Array<Broken>
) {
  const network = yield* TestNetwork.TestNetwork
  const goOn = yield* Deferred.make<void>()
  const limits = {
    maxMessageBytes: scenario.limit,
    maxQueuedBytes: scenario.queue,
    receiveBufferBytes: scenario.receive,
    heartbeat
  }
  const live = (side: Side, connection: Parameters<Side["live"]>[0]) =>
    Effect.andThen(
      Effect.forkDetach(Effect.map(connection.closed, (event) => {
        side.event = event
      })),
      side.live(connection, Deferred.await(goOn))
    )

  const serverScope = yield* Scope.make()
  const serving = WebSocketServer.serve(
    (connection, index: number) => live(pairs[index]!.server, connection),
    { handshake: ({ query }) => Effect.succeed({ data: Number(query.get("client")) }) }
  )
  const server = yield* Layer.buildWithScope(
    Layer.provideMerge(serving, TestNetwork.layerServer(options.server?.(limits) ?? limits)),
    serverScope
  ).pipe(Effect.flatMap((context) => Effect.provideContext(Effect.service(WebSocketServer.WebSocketServer), context)))
  const clientLayer = yield* Layer.build(TestNetwork.layerClient)

  const clients = yield* Effect.forEach(
    pairs,
    ({ client }, i) =>
      WebSocketClient.connect(`ws://simulation/?client=${i}`, limits).pipe(
        Effect.flatMap((connection) => live(client, connection)),
        Effect.scoped,
        Effect.ignore,
        Effect.ensuring(Deferred.succeed(client.quiet, undefined)),
        Effect.provideContext(clientLayer),
        Effect.forkChild
      )
  )
  yield* Effect.yieldNow
  const links = yield* network.links
  for (const fault of scenario.faults) yield* Effect.forkChild(inflict(fault, links))
  yield* Effect.sleep(Scenario.healedAt)
  for (const link of links) yield* link.set({ ...perfect, latency: 1 })

  // Whoever has a connection gets through with what it has to say.
  for (const { client, server } of pairs) {
    yield* Deferred.await(client.quiet)
    if (server.connection !== undefined) yield* Deferred.await(server.quiet)
  }
  yield* Effect.sleep(calmMillis)
  for (const pair of pairs) yield* checkAlive(scenario, pair)

  yield* Deferred.succeed(goOn, undefined)
  // Longer than closing may take: those who close have closed, the others are closed by the end of the server.
  yield* Effect.sleep(closeMillis)
  yield* Scope.close(serverScope, Exit.void)
  yield* Effect.forEach(clients, (client) => Fiber.await(client), { discard: true })
  for (const pair of pairs) checkEnded(scenario, pair)

  // A closed connection is forgotten within the turn.
  yield* Effect.sleep(1)
  const left = { links: (yield* network.links).length, connections: (yield* server.connections).length }
  if (left.links + left.connections > 0) {
    broken.push({ invariant: "nothing is left", detail: `${left.links} links, ${left.connections} connections` })
  }
})

const inflict = (fault: Scenario.Fault, links: ReadonlyArray<TestLink>): Effect.Effect<void> =>
  Effect.forEach(
    fault.client === undefined ? links : links.slice(fault.client, fault.client + 1),
    (link) =>
      Effect.andThen(
        Effect.sleep(fault.at),
        fault._tag === "Reset" ? link.reset : link.set(fault.behaviour, fault.direction)
      ),
    { concurrency: "unbounded", discard: true }
  )

const harmless = new Set(["latency", "jitter", "bytesPerSecond", "chunkBytes"])
const garbling = new Set(["corrupt", "duplicate", "truncate"])

const sets = (scenario: Scenario.Scenario, names: ReadonlySet<string>): boolean =>
  scenario.faults.some((fault) => fault._tag === "Set" && Object.keys(fault.behaviour).some((key) => names.has(key)))

// A network that has only been slow. One client's misfortune is not told from another's: it is enough that there is any.
const isOnlySlow = ({ faults }: Scenario.Scenario): boolean =>
  faults.every((fault) => fault._tag === "Set" && Object.keys(fault.behaviour).every((key) => harmless.has(key)))

const sendsTooMuch = ({ plan }: Side): boolean =>
  plan.senders.some((steps) => steps.some(({ _tag }) => _tag === "Oversize"))

// Whoever closes in the middle may run into the close timeout behind a slow reader.
const isRough = (side: Side): boolean => side.plan.end._tag === "Abort" || side.plan.hasty || sendsTooMuch(side)

const checkAlive = Effect.fnUntraced(function*(scenario: Scenario.Scenario, { client, server }: Pair) {
  const isAlive = (yield* stateOf(client)) === "Open" && (yield* stateOf(server)) === "Open"
  if (!isAlive) {
    const isMeant = [client, server].some((side) => side.plan.hasty || sendsTooMuch(side))
    if (isMeant || !isOnlySlow(scenario)) return
    const why = client.error ?? server.error ?? "never connected"
    return client.break("nobody is dropped over a network that is only slow", String(why))
  }
  if (!sets(scenario, garbling)) {
    checkReceived(client, server, { all: true })
    checkReceived(server, client, { all: true })
    yield* checkPing(client)
    yield* checkPing(server)
  }
})

const stateOf = ({ connection }: Side) => connection === undefined ? Effect.undefined : connection.state

const checkPing = (side: Side): Effect.Effect<void> =>
  side.connection!.ping.pipe(
    Effect.timeout("4 seconds"),
    Effect.catch((error) =>
      Effect.sync(() => side.break("every Ping is answered while both sides live", String(error)))
    )
  )

const checkEnded = (scenario: Scenario.Scenario, pair: Pair): void => {
  const isGarbled = sets(scenario, garbling)
  for (const [from, to] of [[pair.client, pair.server], [pair.server, pair.client]] as const) {
    if (isGarbled) continue
    // Once the closing handshake is complete, who reads to the end has all that was said by who closed first.
    const isComplete = from.event?.wasClean === true && from.event.initiator === "Local" &&
      to.event?.wasClean === true && to.event.initiator === "Remote"
    checkReceived(from, to, { all: isComplete && to.hasReadToTheEnd && !to.hasLeft })
    if (from.event?.wasClean === false && isOnlySlow(scenario) && !isRough(from) && !isRough(to)) {
      from.break(
        "every closing handshake is completed over a network that is only slow",
        `it ended with ${from.event.code}`
      )
    }
    // Who closes in the same moment that the other's Close arrives answers it with a code of its own.
    if (isComplete && !to.plan.hasty && from.event?.code !== to.event?.code) {
      to.break("both sides agree on how they ended", `${from.event?.code} and ${to.event?.code}`)
    }
    const reason = to.error?.reason._tag
    if (
      (reason === "ProtocolError" || reason === "InvalidPayload" || reason === "LimitExceeded") && !sendsTooMuch(from)
    ) {
      to.break("neither side breaks a rule", String(to.error))
    }
  }
}
