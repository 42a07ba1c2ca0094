/**
 * A network in memory: servers, clients and the links between them, in virtual time.
 *
 * @since 0.1.0
 */
import type { Compression } from "@effect-ws/core/Compression"
import type { Connection } from "@effect-ws/core/Connection"
import * as Handshake from "@effect-ws/core/protocol/Handshake"
import type { WebSocketUrl } from "@effect-ws/core/protocol/WebSocketUrl"
import * as ServerRuntime from "@effect-ws/core/ServerRuntime"
import type { Transport } from "@effect-ws/core/Transport"
import * as WebSocketClient from "@effect-ws/core/WebSocketClient"
import {
  type ConnectError,
  ConnectionRefused,
  HostNotFound,
  InvalidRequest,
  NetworkFailure,
  UpgradeRejected
} from "@effect-ws/core/WebSocketError"
import { type Route, WebSocketServer } from "@effect-ws/core/WebSocketServer"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import { type End, Link, type LinkContext } from "./internal/link.ts"
import { makeWatch } from "./internal/release.ts"
import { sha1 } from "./internal/sha1.ts"
import { type Behaviour, type Direction, perfect, type TestLink } from "./TestLink.ts"

/**
 * A network, as a test controls it.
 *
 * **Details**
 *
 * - `seed` determines all that is left to chance; `compression` is the option.
 * - `links` are those that are not over, oldest first; one for each connection, from the beginning of its handshake.
 * - `linkOf` is the link that carries a connection.
 * - `set` changes the behaviour of all links, those to come included.
 * - `dial`, `listen`, `randomFill`, `releasing` and `tellSeed` are what clients and servers are made of; `WebSocketProbe`
 *   plays either. `releasing` tells that a scope is about to close connections; `tellSeed` logs the seed if a test failed.
 *
 * @category services
 * @since 0.1.0
 */
export class TestNetwork extends Context.Service<TestNetwork, {
  readonly seed: number | string
  readonly compression: Compression | undefined
  readonly links: Effect.Effect<ReadonlyArray<TestLink>>
  readonly linkOf: (connection: Connection) => Effect.Effect<TestLink>
  readonly set: (behaviour: Partial<Behaviour>, direction?: Direction) => Effect.Effect<void>
  readonly dial: (request: Request) => Effect.Effect<WebSocketClient.Opened, ConnectError["reason"]>
  readonly listen: (listener: Listener) => Effect.Effect<void, never, Scope.Scope>
  readonly randomFill: (bytes: Uint8Array) => void
  readonly releasing: (connections: Iterable<Connection>) => Effect.Effect<void>
  readonly tellSeed: (exit: Exit.Exit<unknown, unknown>) => Effect.Effect<void>
}>()("@effect-ws/test-kit/TestNetwork/TestNetwork") {}

/**
 * A request on its way to a server: what a client sends or, to show a server what it should refuse, anything. `rawHeaders`
 * are its lines, names and values in turns; by default, those of `headers`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Request extends WebSocketClient.OpeningRequest {
  readonly method?: string | undefined
  readonly httpVersion?: string | undefined
  readonly rawHeaders?: ReadonlyArray<string> | undefined
}

/**
 * Who answers the requests to an address. Without a `host`, those to every host that nobody else listens at.
 *
 * @category models
 * @since 0.1.0
 */
export interface Listener {
  readonly host: string | undefined
  readonly port: number
  readonly upgrade: (upgrade: ServerRuntime.Upgrade) => void
}

/**
 * What a network is made of.
 *
 * **Details**
 *
 * `seed` is 0 by default: a test does the same each time. `link` is the behaviour that links begin with; by default, they
 * carry bytes at once. `wrap` is put around the transports of all connections, to record or to disturb them. `compression`
 * is what servers and clients compress with, such as that of `@effect-ws/node`; without it they agree on none.
 *
 * @category models
 * @since 0.1.0
 */
export interface NetworkOptions {
  readonly seed?: number | string | undefined
  readonly link?: Partial<Behaviour> | undefined
  readonly wrap?: ((transport: Transport, role: "client" | "server") => Transport) | undefined
  readonly compression?: Compression | undefined
}

/**
 * The options of a server in a network: where it listens, beside what servers have on every platform. Without a `host`, it
 * answers at every host and port where no other server of the network listens, so that an application's own URLs lead to it.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServerOptions extends ServerRuntime.ServerOptions {
  readonly host?: string | undefined
  readonly port?: number | undefined
}

/**
 * Provides a network without anybody in it.
 *
 * **When to use**
 *
 * With {@link layerServer} and {@link layerClient}, for several servers; with `WebSocketProbe.listen`, for a client whose
 * server is played by the test. For an application and its clients, use {@link layer}.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerNetwork = (options: NetworkOptions = {}): Layer.Layer<TestNetwork> =>
  Layer.effect(TestNetwork, Effect.suspend(() => make(options)))

/**
 * Provides a `WebSocketServer` in the network, which runs the same engine as a server on a real socket.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerServer = (options: ServerOptions = {}): Layer.Layer<WebSocketServer, never, TestNetwork> =>
  Layer.effect(
    WebSocketServer,
    Effect.gen(function*() {
      const network = yield* TestNetwork
      const { host, port = 80 } = options
      const runtime = yield* ServerRuntime.make({
        ...options,
        address: { _tag: "Tcp", host: host ?? "localhost", port },
        sha1,
        compression: network.compression
      })
      yield* network.listen({ host, port, upgrade: runtime.upgrade })
      return {
        ...runtime.server,
        // When a route is given up, the connections that it carries are closed.
        route: (route) => {
          const carried = new Set<Connection>()
          const handler: Route["handler"] = (connection, data) => {
            carried.add(connection)
            return route.handler(connection, data)
          }
          return Effect.andThen(
            runtime.server.route({ ...route, handler }),
            Effect.addFinalizer(() => network.releasing(carried))
          )
        }
      }
    })
  )

/**
 * Provides a `WebSocketClient` in the network, which runs the same engine as a client on a real socket.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerClient: Layer.Layer<WebSocketClient.WebSocketClient, never, TestNetwork> = Layer.effect(
  WebSocketClient.WebSocketClient,
  Effect.gen(function*() {
    const { compression, dial, randomFill, releasing } = yield* TestNetwork
    const client = yield* WebSocketClient.make({ open: dial, randomFill, sha1, compression })
    return {
      connect: (url, options) =>
        Effect.tap(client.connect(url, options), (connection) =>
          // Before the connection's own, which closes it.
          Effect.addFinalizer(() => releasing([connection])))
    }
  })
)

/**
 * Provides a network with a server and a client in it, and options for them.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (
  options: NetworkOptions & { readonly server?: ServerOptions | undefined }
): Layer.Layer<TestNetwork | WebSocketServer | WebSocketClient.WebSocketClient> =>
  Layer.mergeAll(layerServer(options.server), layerClient).pipe(Layer.provideMerge(layerNetwork(options)))

/**
 * Provides a network with a `WebSocketServer` and a `WebSocketClient` in it, so that an application runs on them unchanged.
 *
 * **Details**
 *
 * Handshakes, frames and backpressure are the real ones, and so are the timeouts, which pass with the `TestClock`. The
 * client finds the server under every host name and port.
 *
 * When the layer is released because of a failure, or a scope with a `WebSocketProbe` in it fails, the seed of the network
 * is logged.
 *
 * **Gotchas**
 *
 * Tests that share a layer, as with `layer(TestNetwork.layer)` of `@effect/vitest`, share its network, its clock and its
 * chance: they must not run at the same time, and what is left to chance in one depends on those before it. Where that
 * matters, give each test a network of its own.
 *
 * Effect builds a layer once for everything inside an `Effect.provide`: for two networks in one test, provide them one
 * after the other, or call {@link layerWith} for each.
 *
 * **Example** (A server and a client without a port)
 *
 * ```ts
 * import { WebSocketClient, WebSocketServer } from "@effect-ws/core"
 * import { TestNetwork } from "@effect-ws/test-kit"
 * import { Effect, Layer, Stream } from "effect"
 *
 * const Echo = WebSocketServer.serve((connection) =>
 *   Stream.runForEach(connection.messages, (message) => connection.send(message))
 * )
 *
 * const program = Effect.gen(function*() {
 *   const connection = yield* WebSocketClient.connect("wss://echo.example")
 *   yield* connection.send("hello")
 *   return yield* connection.receive
 * }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(Echo, TestNetwork.layer)))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<TestNetwork | WebSocketServer | WebSocketClient.WebSocketClient> = layerWith({})

const make = Effect.fnUntraced(function*(options: NetworkOptions) {
  const seed = options.seed ?? 0
  const random = yield* Effect.service(Random.Random).pipe(Random.withSeed(seed))
  const context: LinkContext = {
    clock: yield* Clock.Clock,
    random,
    runFork: Effect.runForkWith(yield* Effect.context<never>()),
    traffic: 0
  }
  const behaviours = { toServer: { ...perfect, ...options.link }, toClient: { ...perfect, ...options.link } }
  const listeners = new Set<Listener>()
  const links = new Map<number, Link>()
  let lastPort = 50_000

  // Once for each failure, however many scopes it passes through.
  const told = new WeakSet<Cause.Cause<unknown>>()
  const tellSeed = (exit: Exit.Exit<unknown, unknown>) =>
    Effect.suspend(() => {
      if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause) || told.has(exit.cause)) return Effect.void
      told.add(exit.cause)
      // That of a test swallows what is printed.
      return Effect.logInfo(`The seed of the TestNetwork was ${JSON.stringify(seed)}`).pipe(
        Effect.provideService(Console.Console, globalThis.console)
      )
    })

  yield* Effect.addFinalizer((exit) =>
    Effect.gen(function*() {
      for (const link of links.values()) yield* link.handle.reset
      yield* tellSeed(exit)
    })
  )

  // The ends that closing scopes wait for.
  const releasing = new Set<End>()
  const watch = yield* makeWatch(() => {
    for (const end of releasing) if (end.isClosed) releasing.delete(end)
    return releasing.size > 0
  }, () => context.traffic)

  const listenerAt = ({ host, port }: WebSocketUrl): Listener | undefined => {
    const all = [...listeners]
    return all.find((each) => each.host === host && each.port === port) ??
      all.find((each) => each.host === undefined)
  }

  const linkOf = ({ localAddress, peerAddress, role }: Connection): Link | undefined => {
    const address = role === "client" ? localAddress : peerAddress
    return address._tag === "Some" && address.value._tag === "Tcp" ? links.get(address.value.port) : undefined
  }

  const makeLink = (url: WebSocketUrl): Link => {
    const port = ++lastPort
    const link = new Link(context, behaviours, {
      client: { _tag: "Tcp", host: "client", port },
      server: { _tag: "Tcp", host: url.host, port: url.port }
    })
    links.set(port, link)
    // Forgotten once both ends are closed.
    link.client.onClosed(() => link.server.onClosed(() => links.delete(port)))
    return link
  }

  const wrap = (transport: Transport, role: "client" | "server") => options.wrap?.(transport, role) ?? transport

  const dial: TestNetwork["Service"]["dial"] = ({ headers, httpVersion, method, rawHeaders, url }) =>
    Effect.callback<WebSocketClient.Opened, ConnectError["reason"]>((resume) => {
      const invalid = Handshake.invalidHeader(headers)
      if (invalid !== undefined) {
        return resume(Effect.fail(new InvalidRequest({ detail: `header ${JSON.stringify(invalid)} is not HTTP` })))
      }
      const link = makeLink(url)
      const { client, server } = link
      // The answer comes as the head of a response, and so after what delays it on its way.
      const answer = (result: Effect.Effect<WebSocketClient.Opened, ConnectError["reason"]>) => {
        server.outgoing.head(() => {
          forget()
          if (Exit.isExit(result) && Exit.isFailure(result)) client.destroy()
          resume(result)
        })
      }
      const forget = client.onClosed(() => resume(Effect.fail(new NetworkFailure({ cause: client.cause }))))
      client.outgoing.head(() => {
        const listener = listenerAt(url)
        if (listener === undefined) {
          const isKnown = [...listeners].some(({ host }) => host === url.host)
          const cause = new Error(`nobody listens at ${url.hostHeader} in the TestNetwork`)
          const reason = isKnown ? new ConnectionRefused({ cause }) : new HostNotFound({ host: url.host, cause })
          return answer(Effect.fail(reason))
        }
        listener.upgrade({
          method: method ?? "GET",
          httpVersion: httpVersion ?? "1.1",
          url: url.target,
          headers,
          rawHeaders: rawHeaders ?? Object.entries(headers).flat(),
          peerAddress: server.peerAddress,
          localAddress: server.localAddress,
          // A `wss:` URL leads to the server like any other, and nothing is encrypted.
          tls: undefined,
          accept: (headers) => {
            const transport = wrap(client, "client")
            answer(Effect.succeed({ headers: Handshake.joinHeaders(headers), transport }))
            return wrap(server, "server")
          },
          reject: ({ body, headers, status }) => {
            answer(Effect.fail(new UpgradeRejected({ status, headers: Handshake.joinHeaders(headers), body })))
            server.end()
          },
          abandon: () => server.destroy(),
          onLost: (lost) => server.onClosed(lost)
        })
      })
      return Effect.sync(() => client.destroy())
    })

  return TestNetwork.of({
    seed,
    compression: options.compression,
    links: Effect.sync(() => Array.from(links.values(), ({ handle }) => handle)),
    linkOf: (connection) => {
      const link = linkOf(connection)
      return link === undefined
        ? Effect.die(new Error("the connection is over, or is not one of this TestNetwork"))
        : Effect.succeed(link.handle)
    },
    set: (behaviour, direction) =>
      Effect.gen(function*() {
        for (const lane of ["toServer", "toClient"] as const) {
          if ((direction ?? lane) === lane) behaviours[lane] = { ...behaviours[lane], ...behaviour }
        }
        for (const link of links.values()) yield* link.handle.set(behaviour, direction)
      }),
    dial,
    listen: (listener) =>
      Effect.asVoid(Effect.acquireRelease(
        Effect.suspend(() => {
          const isTaken = [...listeners].some(({ host, port }) =>
            host === listener.host && (host === undefined || port === listener.port)
          )
          if (isTaken) return Effect.die(new Error(`somebody listens at ${listener.host ?? "every host"} already`))
          return Effect.sync(() => listeners.add(listener))
        }),
        () => Effect.sync(() => listeners.delete(listener))
      )),
    randomFill: (bytes) => {
      for (let i = 0; i < bytes.length; i++) bytes[i] = Math.floor(random.nextDoubleUnsafe() * 256)
    },
    tellSeed,
    releasing: (connections) =>
      Effect.andThen(
        Effect.sync(() => {
          for (const connection of connections) {
            const link = linkOf(connection)
            if (link !== undefined) releasing.add(link[connection.role])
          }
        }),
        watch
      )
  })
})
