import { MessageCodec, TypedConnection, type WebSocketError } from "@effect-ws/core"
import { TestNetwork, WebSocketProbe, Wire } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  type LogLevel,
  References,
  Schema,
  SchemaGetter,
  Stream
} from "effect"
import { binary, isWaiting, open, openStalled, settle, start } from "./fixture.ts"

const Question = Schema.Struct({ add: Schema.Array(Schema.Finite) })
const Answer = Schema.TaggedUnion({ Sum: { sum: Schema.Finite }, Unclear: { why: Schema.String } })

const protocol = { incoming: MessageCodec.json(Question), outgoing: MessageCodec.json(Answer) }
const asClient = { incoming: protocol.outgoing, outgoing: protocol.incoming }

const ask = (...add: ReadonlyArray<number>) => JSON.stringify({ add })

/** A server's connection with a typed view, and its peer. */
const openTyped = Effect.fnUntraced(function*(undecodable?: TypedConnection.Undecodable) {
  const { connection, peer } = yield* open()
  return { peer, connection, view: TypedConnection.make(connection, { ...protocol, undecodable }) }
})

describe("receiving", () => {
  it.effect("one batch of the connection is one batch of values", () =>
    Effect.gen(function*() {
      const { peer, view } = yield* openTyped()
      yield* peer.sendText(ask(1), ask(2))
      assert.deepStrictEqual(yield* view.pull, [{ add: [1] }, { add: [2] }])
      yield* peer.sendText(ask(3))
      assert.deepStrictEqual(yield* view.pull, [{ add: [3] }])
    }))

  it.effect("messages ends as those of the connection do", () =>
    Effect.gen(function*() {
      const normal = yield* openTyped()
      yield* normal.peer.sendText(ask(1), ask(2))
      yield* normal.peer.sendClose(1000)
      yield* normal.peer.end
      assert.deepStrictEqual(yield* Stream.runCollect(normal.view.messages), [{ add: [1] }, { add: [2] }])
      const lost = yield* openTyped()
      const seen: Array<unknown> = []
      const reading = yield* start(
        Stream.runForEach(lost.view.messages, (value) => Effect.sync(() => seen.push(value)))
      )
      yield* lost.peer.sendText(ask(1))
      yield* settle
      yield* lost.peer.reset
      const error = yield* Effect.flip(Fiber.join(reading))
      assert.deepStrictEqual(seen, [{ add: [1] }])
      assert.strictEqual(error._tag === "ConnectionError" && error.reason._tag, "ConnectionLost")
    }))

  it.effect("receive takes one message and leaves the rest to whoever comes next", () =>
    Effect.gen(function*() {
      const { peer, view } = yield* openTyped()
      yield* peer.sendText(ask(1), ask(2), ask(3))
      assert.deepStrictEqual(yield* view.receive, { add: [1] })
      assert.deepStrictEqual(yield* view.pull, [{ add: [2] }, { add: [3] }])
      yield* peer.close(1000)
      assert.isTrue(Cause.isDone(yield* Effect.flip(view.receive)))
    }))

  it.effect("an interrupted consumer that waited has taken nothing", () =>
    Effect.gen(function*() {
      const { peer, view } = yield* openTyped()
      yield* Fiber.interrupt(yield* start(view.pull))
      yield* Fiber.interrupt(yield* start(view.receive))
      yield* peer.sendText(ask(1))
      assert.deepStrictEqual(yield* view.pull, [{ add: [1] }])
    }))

  it.effect("of several consumers each gets the next message", () =>
    Effect.gen(function*() {
      const { peer, view } = yield* openTyped()
      const all = yield* start(Effect.all([view.receive, view.receive, view.pull], { concurrency: "unbounded" }))
      yield* settle
      yield* peer.sendText(ask(1), ask(2), ask(3), ask(4))
      assert.deepStrictEqual(yield* Fiber.join(all), [{ add: [1] }, { add: [2] }, [{ add: [3] }, { add: [4] }]])
    }))
})

describe("a message that does not decode", () => {
  it.effect("fails the read behind those before it, and who reads on gets those after it", () =>
    Effect.gen(function*() {
      const { connection, peer, view } = yield* openTyped()
      yield* peer.sendText(ask(1), "nonsense", ask(2), `{"add":1}`)
      assert.deepStrictEqual(yield* view.pull, [{ add: [1] }])
      const first = yield* Effect.flip(view.pull)
      assert.deepInclude(first, { _tag: "DecodeError", length: 8, closeCode: 1007 })
      assert.deepStrictEqual(yield* view.receive, { add: [2] })
      const second = yield* Effect.flip(view.receive)
      assert.strictEqual(second._tag === "DecodeError" && second.reason._tag, "Mismatch")
      yield* peer.sendText(ask(3))
      assert.deepStrictEqual(yield* view.pull, [{ add: [3] }])
      assert.strictEqual(yield* connection.state, "Open")
    }))

  it.effect("and what follows it come before what another consumer waited for", () =>
    Effect.gen(function*() {
      const { peer, view } = yield* openTyped()
      const first = yield* start(view.pull)
      const second = yield* start(Effect.flip(view.pull))
      yield* settle
      yield* peer.sendText(ask(1), "nonsense", ask(2))
      assert.deepStrictEqual(yield* Fiber.join(first), [{ add: [1] }])
      yield* peer.sendText(ask(3))
      assert.strictEqual((yield* Fiber.join(second))._tag, "DecodeError")
      assert.deepStrictEqual(yield* view.pull, [{ add: [2] }, { add: [3] }])
    }))

  it.effect("of the wrong type fails with 1003, wherever it stands", () =>
    Effect.gen(function*() {
      const { peer, view } = yield* openTyped()
      yield* peer.send(binary(Uint8Array.of(1)), Wire.text(ask(1)))
      assert.deepInclude(yield* Effect.flip(view.pull), { _tag: "DecodeError", closeCode: 1003, length: 1 })
      assert.deepStrictEqual(yield* view.pull, [{ add: [1] }])
    }))

  const closings: ReadonlyArray<{
    readonly undecodable: TypedConnection.Undecodable
    readonly frame: Wire.Frame
    readonly code: number
  }> = [
    { undecodable: "close", frame: Wire.text("nonsense"), code: 1007 },
    { undecodable: "close", frame: binary(Uint8Array.of(1)), code: 1003 },
    { undecodable: { close: 4001 }, frame: Wire.text("nonsense"), code: 4001 }
  ]

  it.effect.each(closings)(
    "closes with $code, then fails the read; what came after it is still there",
    (closing) =>
      Effect.gen(function*() {
        const { peer, view } = yield* openTyped(closing.undecodable)
        yield* peer.send(Wire.text(ask(1)), closing.frame, Wire.text(ask(2)))
        assert.deepStrictEqual(yield* view.pull, [{ add: [1] }])
        const failing = yield* start(view.pull)
        yield* peer.expectClose(closing.code)
        yield* peer.sendClose(closing.code)
        yield* peer.end
        assert.strictEqual((yield* Effect.flip(Fiber.join(failing)))._tag, "DecodeError")
        assert.deepStrictEqual(yield* view.pull, [{ add: [2] }])
        assert.isTrue(Cause.isDone(yield* Effect.flip(view.pull)))
      })
  )

  it.effect("a peer that does not answer the Close holds the read for the close timeout only", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* open({ closeTimeout: "1 second" })
      const view = TypedConnection.make(connection, { ...protocol, undecodable: "close" })
      yield* peer.sendText("nonsense")
      const failing = yield* start(view.pull)
      yield* peer.expectClose(1007)
      assert.isTrue(yield* isWaiting(failing))
      yield* peer.expectNoMessage("1 second")
      assert.strictEqual((yield* Effect.flip(Fiber.join(failing)))._tag, "DecodeError")
    }))

  it.effect("is skipped and counted, also if there is nothing else", () =>
    Effect.gen(function*() {
      const { connection, peer, view } = yield* openTyped("skip")
      yield* peer.sendText("nonsense", ask(1), `{"add":1}`, ask(2))
      assert.deepStrictEqual(yield* view.pull, [{ add: [1] }, { add: [2] }])
      assert.strictEqual(yield* view.skipped, 2)
      const waiting = yield* start(view.pull)
      yield* peer.send(Wire.text("nonsense"), binary(Uint8Array.of(1)))
      assert.isTrue(yield* isWaiting(waiting))
      yield* peer.sendText(ask(3))
      assert.deepStrictEqual(yield* Fiber.join(waiting), [{ add: [3] }])
      assert.strictEqual(yield* view.skipped, 4)
      assert.strictEqual(yield* connection.state, "Open")
    }))
})

describe("any messages in any batches, read in any way", () => {
  const Script = {
    batches: Schema.Array(Schema.Array(Schema.Literals(["good", "nonsense", "other", "binary"]))),
    ways: Schema.NonEmptyArray(Schema.Literals(["pull", "receive"]))
  }
  const frames = {
    good: (n: number) => Wire.text(ask(n)),
    nonsense: () => Wire.text("nonsense"),
    other: () => Wire.text("{}"),
    binary: (n: number) => binary(Uint8Array.of(n))
  }
  const outcomes = { good: "good", nonsense: "Malformed", other: "Mismatch", binary: "UnexpectedType" }

  /** Sends a batch in each write, and reads to the end: numbers, and the reasons of errors. */
  const play = Effect.fnUntraced(
    function*(
      batches: ReadonlyArray<ReadonlyArray<keyof typeof frames>>,
      ways: ReadonlyArray<"pull" | "receive">,
      undecodable: TypedConnection.Undecodable
    ) {
      const { peer, view } = yield* openTyped(undecodable)
      let sent = 0
      for (const batch of batches) {
        yield* peer.send(...batch.map((kind) => frames[kind](sent++)))
        yield* settle
      }
      yield* peer.sendClose(1000)
      yield* peer.end
      const seen: Array<unknown> = []
      for (let reads = 0; true; reads++) {
        const reading = ways[reads % ways.length] === "pull"
          ? view.pull
          : Effect.map(view.receive, (value) => [value] as const)
        const read = yield* Effect.result(reading)
        if (read._tag === "Success") seen.push(...read.success.map(({ add }) => add[0]))
        else if (read.failure._tag === "DecodeError") seen.push(read.failure.reason._tag)
        else return { seen, skipped: yield* view.skipped }
      }
    },
    Effect.scoped
  )

  it.effect.prop(
    "each is a value or an error, once and in order",
    Script,
    ({ batches, ways }) =>
      Effect.gen(function*() {
        const { seen, skipped } = yield* play(batches, ways, "fail")
        assert.deepStrictEqual(seen, batches.flat().map((kind, n) => kind === "good" ? n : outcomes[kind]))
        assert.strictEqual(skipped, 0)
      })
  )

  it.effect.prop("with skip, each is a value or counted", Script, ({ batches, ways }) =>
    Effect.gen(function*() {
      const { seen, skipped } = yield* play(batches, ways, "skip")
      const good = batches.flat().flatMap((kind, n) => kind === "good" ? [n] : [])
      assert.deepStrictEqual(seen, good)
      assert.strictEqual(skipped, batches.flat().length - good.length)
    }))
})

describe("a schema that takes time", () => {
  /** Numbers that are decoded when the test lets them. */
  const openSlow = Effect.fnUntraced(function*(undecodable?: TypedConnection.Undecodable) {
    const started: Array<number> = []
    const allowed = yield* Deferred.make<void>()
    const Slow = Schema.Finite.pipe(Schema.decodeTo(Schema.Finite, {
      decode: SchemaGetter.transformEffect((value: number) =>
        Effect.gen(function*() {
          started.push(value)
          yield* Deferred.await(allowed)
          return value
        })
      ),
      encode: SchemaGetter.passthrough()
    }))
    const codec = MessageCodec.json(Slow)
    const { connection, peer } = yield* open()
    const view = TypedConnection.make(connection, { incoming: codec, outgoing: codec, undecodable })
    return { peer, view, started, allow: Deferred.succeed(allowed, undefined) }
  })

  it.effect("loses no message to an interruption, and keeps their order", () =>
    Effect.gen(function*() {
      const { allow, peer, started, view } = yield* openSlow()
      yield* peer.sendText("1", "2", "3")
      const pulling = yield* start(view.pull)
      assert.isTrue(yield* isWaiting(pulling))
      const receiving = yield* start(view.receive)
      assert.isTrue(yield* isWaiting(receiving))
      assert.deepStrictEqual(started, [1, 2])
      // In the reverse order each puts its message back before the other's.
      yield* Fiber.interrupt(receiving)
      yield* Fiber.interrupt(pulling)
      yield* allow
      const received: Array<number> = []
      while (received.length < 3) received.push(...yield* view.pull)
      assert.deepStrictEqual(received, [1, 2, 3])
    }))

  it.effect("skips and fails as any other", () =>
    Effect.gen(function*() {
      const skipping = yield* openSlow("skip")
      yield* skipping.allow
      yield* skipping.peer.sendText("1", "x", "2")
      assert.deepStrictEqual([yield* skipping.view.receive, yield* skipping.view.receive], [1, 2])
      assert.strictEqual(yield* skipping.view.skipped, 1)
      const failing = yield* openSlow()
      yield* failing.allow
      yield* failing.peer.sendText("1", "x", "2")
      assert.strictEqual(yield* failing.view.receive, 1)
      assert.strictEqual((yield* Effect.flip(failing.view.receive))._tag, "DecodeError")
      assert.strictEqual(yield* failing.view.receive, 2)
    }))
})

describe("sending", () => {
  it.effect("values go out encoded, one or many", () =>
    Effect.gen(function*() {
      const { peer, view } = yield* openTyped()
      yield* view.send({ _tag: "Sum", sum: 1 })
      yield* view.sendAll([{ _tag: "Sum", sum: 2 }, { _tag: "Unclear", why: "?" }])
      for (const text of [`{"_tag":"Sum","sum":1}`, `{"_tag":"Sum","sum":2}`, `{"_tag":"Unclear","why":"?"}`]) {
        yield* peer.expectText(text)
      }
    }))

  it.effect("what does not encode is an EncodeError, and only what comes before it is sent", () =>
    Effect.gen(function*() {
      const { peer, view } = yield* openTyped()
      assert.strictEqual((yield* Effect.flip(view.send({ _tag: "Sum", sum: NaN })))._tag, "EncodeError")
      const sums = [1, NaN, 2].map((sum) => ({ _tag: "Sum", sum }) as const)
      assert.strictEqual((yield* Effect.flip(view.sendAll(sums)))._tag, "EncodeError")
      yield* peer.expectText(`{"_tag":"Sum","sum":1}`)
      yield* peer.expectNoMessage("1 second")
    }))

  it.effect("suspends while the queue is full, and an interrupted send sends nothing", () =>
    Effect.gen(function*() {
      const { connection, peer } = yield* openStalled({ maxQueuedMessages: 2 })
      const view = TypedConnection.make(connection, protocol)
      const sum = (sum: number) => ({ _tag: "Sum", sum }) as const
      yield* view.sendAll([sum(1), sum(2)])
      const interrupted = yield* start(view.send(sum(3)))
      const waiting = yield* start(view.sendAll([sum(4), sum(5)]))
      assert.isTrue(yield* isWaiting(interrupted))
      yield* Fiber.interrupt(interrupted)
      yield* peer.demand(Infinity)
      yield* Fiber.join(waiting)
      for (const n of [1, 2, 4, 5]) yield* peer.expectText(`{"_tag":"Sum","sum":${n}}`)
    }))

  it.effect("sendAll of values without end lets others run, and ends with the connection", () =>
    Effect.gen(function*() {
      const { peer, view } = yield* openTyped()
      let taken = 0
      function* sums() {
        while (true) yield { _tag: "Sum", sum: taken++ } as const
      }
      const sending = yield* start(view.sendAll(sums()))
      for (let n = 0; n < 3000; n++) yield* peer.expectText(`{"_tag":"Sum","sum":${n}}`)
      yield* peer.reset
      assert.strictEqual((yield* Effect.flip(Fiber.join(sending)))._tag, "SendError")
      const takenUntilThen = taken
      yield* settle
      assert.strictEqual(taken, takenUntilThen)
    }))
})

/** Collects what is logged. */
const recordLogs = () => {
  const logs: Array<{ readonly level: LogLevel.LogLevel; readonly message: unknown }> = []
  const logger = Logger.make<unknown, void>(({ logLevel, message }) => logs.push({ level: logLevel, message }))
  return { logs, layer: Layer.merge(Logger.layer([logger]), Layer.succeed(References.MinimumLogLevel, "Debug")) }
}

describe("serving and connecting", () => {
  const answer = (client: TypedConnection.TypedConnection<typeof Question.Type, typeof Answer.Type>) =>
    Stream.runForEach(
      client.messages,
      ({ add }) => client.send({ _tag: "Sum", sum: add.reduce((a, b) => a + b, 0) })
    )

  it.effect("handler and test see values only", () =>
    Effect.gen(function*() {
      const server = yield* TypedConnection.connect(asClient, "ws://localhost")
      yield* server.sendAll([{ add: [1, 2] }, { add: [] }])
      assert.deepStrictEqual(yield* server.receive, { _tag: "Sum", sum: 3 })
      assert.deepStrictEqual(yield* server.receive, { _tag: "Sum", sum: 0 })
      yield* server.connection.close()
    }).pipe(Effect.provide(Layer.provideMerge(TypedConnection.serve(protocol, answer), TestNetwork.layer))))

  it.effect("a handler gets the data of the handshake", () => {
    const Serving = TypedConnection.serve(
      protocol,
      (client, why: string) => client.send({ _tag: "Unclear", why }),
      { path: "/why", handshake: () => Effect.succeed({ data: "who knows" }) }
    )
    return Effect.gen(function*() {
      const server = yield* TypedConnection.connect(asClient, "ws://localhost/why")
      assert.deepStrictEqual(yield* server.receive, { _tag: "Unclear", why: "who knows" })
    }).pipe(Effect.provide(Layer.provideMerge(Serving, TestNetwork.layer)))
  })

  it.effect.each([
    { frame: Wire.text("nonsense"), code: 1007 },
    { frame: binary(Uint8Array.of(1)), code: 1003 }
  ])("a client whose message does not decode is told $code, and not in the error log", ({ code, frame }) => {
    const { layer, logs } = recordLogs()
    return Effect.gen(function*() {
      const hostile = yield* WebSocketProbe.connect("ws://localhost")
      const other = yield* WebSocketProbe.connect("ws://localhost")
      yield* hostile.send(frame)
      yield* hostile.expectClose(code)
      yield* hostile.sendClose(code)
      yield* hostile.end
      yield* hostile.expectEnd
      assert.deepStrictEqual(logs.map(({ level }) => level), ["Debug"])
      yield* other.sendText(ask(1, 1))
      yield* other.expectText(`{"_tag":"Sum","sum":2}`)
      yield* other.close(1000)
    }).pipe(
      Effect.provide(
        Layer.provideMerge(TypedConnection.serve(protocol, answer), TestNetwork.layer).pipe(Layer.provideMerge(layer))
      )
    )
  })

  it.effect("a protocol that closes with its own code does so in a server too", () =>
    Effect.gen(function*() {
      const probe = yield* WebSocketProbe.connect("ws://localhost")
      yield* probe.sendText("nonsense")
      yield* probe.expectClose(4001)
      yield* probe.sendClose(4001)
      yield* probe.end
    }).pipe(Effect.provide(
      Layer.provideMerge(
        TypedConnection.serve({ ...protocol, undecodable: { close: 4001 } }, answer),
        TestNetwork.layer
      )
    )))

  it.effect("a handler may make of it what it likes", () => {
    const Serving = TypedConnection.serve(protocol, (client) =>
      client.receive.pipe(
        Effect.catchTag("DecodeError", (error) => client.send({ _tag: "Unclear", why: error.reason._tag })),
        Effect.repeat({ times: 1 })
      ))
    return Effect.gen(function*() {
      const probe = yield* WebSocketProbe.connect("ws://localhost")
      yield* probe.sendText("nonsense", `{"add":1}`)
      yield* probe.expectText(`{"_tag":"Unclear","why":"Malformed"}`)
      yield* probe.expectText(`{"_tag":"Unclear","why":"Mismatch"}`)
      yield* probe.expectClose(1000)
      yield* probe.sendClose(1000)
      yield* probe.end
    }).pipe(Effect.provide(Layer.provideMerge(Serving, TestNetwork.layer)))
  })

  it.effect("the DecodeError of another connection is the handler's own failure: 1011", () => {
    const { layer, logs } = recordLogs()
    const Serving = TypedConnection.serve(
      protocol,
      (client) => Effect.andThen(Effect.ignore(client.receive), protocol.incoming.decode("nonsense of somebody else"))
    )
    return Effect.gen(function*() {
      const probe = yield* WebSocketProbe.connect("ws://localhost")
      yield* probe.sendText("nonsense")
      yield* probe.expectClose(1011)
      yield* probe.sendClose(1011)
      yield* probe.end
      yield* probe.expectEnd
      // A failure is logged when its connection has ended.
      yield* settle
      assert.deepStrictEqual(logs.map(({ level }) => level), ["Error"])
    }).pipe(
      Effect.provide(Layer.provideMerge(Serving, TestNetwork.layer).pipe(Layer.provideMerge(layer)))
    )
  })
})

describe("what a typed connection is made of", () => {
  it.effect("pulls, receives, sends and closes, and has errors of its own", () =>
    Effect.gen(function*() {
      class Tape implements TypedConnection.Messaging {
        readonly sent: Array<unknown> = []
        readonly closed: Array<unknown> = []
        readonly pull = Effect.succeed<["nonsense"]>(["nonsense"])
        readonly receive = Effect.fail("nobody is there" as const)
        send(message: unknown) {
          return Effect.sync(() => void this.sent.push(message))
        }
        sendAll(messages: Iterable<unknown>) {
          return Effect.sync(() => void this.sent.push(...messages))
        }
        close(code?: number) {
          return Effect.sync(() => void this.closed.push(code))
        }
      }
      const view = TypedConnection.make(new Tape(), { ...protocol, undecodable: "close" })
      yield* view.send({ _tag: "Sum", sum: 1 })
      yield* view.sendAll([{ _tag: "Sum", sum: 2 }])
      assert.deepStrictEqual(view.connection.sent, [`{"_tag":"Sum","sum":1}`, `{"_tag":"Sum","sum":2}`])
      assert.strictEqual((yield* Effect.flip(view.pull))._tag, "DecodeError")
      assert.deepStrictEqual(view.connection.closed, [1007])
      const exit: Exit.Exit<unknown, Cause.Done | WebSocketError.DecodeError | "nobody is there"> = yield* Effect.exit(
        view.receive
      )
      assert.deepStrictEqual(exit, Exit.fail("nobody is there"))
    }))
})
