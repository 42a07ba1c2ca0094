import { CloseEvent, Reconnect, WebSocketError as Errors } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Duration, Effect, Exit, Fiber, Ref, Schedule, Stream } from "effect"
import { TestClock } from "effect/testing"
import { answerClose, frames, isWaiting, settle, start } from "./fixture.ts"
import { network, open, opened, until } from "./reconnect.ts"

/** How `messages` ends. */
const endOf = (client: Reconnect.ReconnectingConnection) =>
  Effect.map(
    Effect.result(Stream.runDrain(client.messages)),
    (result) => result._tag === "Failure" ? result.failure : "Done"
  )

describe("classify", () => {
  const ended = (code: number) =>
    new Errors.ConnectionEnded({
      closeEvent: new CloseEvent.CloseEvent({ code, reason: "", wasClean: true, initiator: "Remote" }),
      error: undefined
    })
  const codes: Record<Reconnect.Decision, ReadonlyArray<number>> = {
    done: [1000, 1005],
    retry: [1001, 1006, 1011, 1012, 1013, 1014, 3008],
    fail: [1002, 1003, 1007, 1008, 1009, 1010, 3000, 3003, 4000, 4401, 4999]
  }
  for (const [decision, all] of Object.entries(codes)) {
    it.each(all)(`§7.4: after a close with %d: ${decision}`, (code) => {
      assert.strictEqual(Reconnect.classify(ended(code)), decision)
    })
  }

  const notConnected = (reason: Errors.ConnectError["reason"]) => new Errors.ConnectError({ url: "ws://test", reason })
  const rejected = (status: number) => notConnected(new Errors.UpgradeRejected({ status, headers: {}, body: "" }))
  it.each([408, 425, 429, 500, 502, 503, 504])("after a rejection with %d: retry", (status) => {
    assert.strictEqual(Reconnect.classify(rejected(status)), "retry")
  })
  it.each([200, 301, 400, 401, 403, 404, 426])("after a rejection with %d: fail", (status) => {
    assert.strictEqual(Reconnect.classify(rejected(status)), "fail")
  })

  const cause = "test"
  const proxy = "http://127.0.0.1:3128"
  const reasons: Record<"retry" | "fail", ReadonlyArray<Errors.ConnectError["reason"]>> = {
    retry: [
      new Errors.HostNotFound({ host: "test", cause }),
      new Errors.ConnectionRefused({ cause }),
      new Errors.NetworkFailure({ cause }),
      new Errors.ConnectTimeout({}),
      new Errors.Undisclosed({ cause }),
      new Errors.ProxyUnreachable({ proxy, cause }),
      new Errors.ProxyFailure({ proxy, detail: "" }),
      ...[1, 3, 4, 5, 6, 408, 429, 502, 503, 504].map((code) => new Errors.ProxyRefused({ proxy, code, detail: "" }))
    ],
    fail: [
      new Errors.InvalidUrl({ url: "", detail: "" }),
      new Errors.InvalidRequest({ detail: "" }),
      new Errors.Unsupported({ feature: "headers" }),
      new Errors.CertificateRejected({ detail: "", cause }),
      new Errors.BadUpgrade({ section: "4.1", detail: "" }),
      new Errors.RedirectRefused({ location: "", detail: "" }),
      new Errors.InvalidProxy({ detail: "" }),
      new Errors.ProxyAuthenticationRequired({ proxy }),
      ...[2, 7, 8, 403, 404].map((code) => new Errors.ProxyRefused({ proxy, code, detail: "" }))
    ]
  }
  for (const [decision, all] of Object.entries(reasons)) {
    it.each(all.map((reason) => [reason._tag, reason] as const))(`after %s: ${decision}`, (_, reason) => {
      assert.strictEqual(Reconnect.classify(notConnected(reason)), decision)
    })
  }
})

describe("the end for good", () => {
  it.effect("a peer that closes with 1000 has done its work: messages end, and sends fail", () =>
    Effect.gen(function*() {
      const { client, peer } = yield* opened()
      yield* peer.sendText("last")
      const ending = yield* start(client.messages.pipe(Stream.runCollect))
      yield* peer.close(1000)
      assert.deepStrictEqual(yield* Fiber.join(ending), ["last"])
      assert.deepStrictEqual(yield* client.state, { _tag: "Closed", error: undefined })
      assert.strictEqual((yield* Effect.flip(client.send("late"))).reason._tag, "ConnectionNotOpen")
      yield* client.closed
      yield* client.close()
    }).pipe(Effect.provide(network)))

  it.effect("a terminal close code fails messages, with the close event and what came before", () =>
    Effect.gen(function*() {
      const { client, peer } = yield* opened()
      yield* peer.sendText("before")
      yield* peer.close(4401, "token expired")
      const closed = yield* until(client, "Closed")
      assert.strictEqual(yield* client.receive, "before")
      const error = yield* endOf(client)
      assert(error !== "Done" && error.reason._tag === "ConnectionEnded")
      assert.isFalse(error.exhausted)
      assert.deepInclude(error.reason.closeEvent, { code: 4401, reason: "token expired" })
      assert.strictEqual(error.reason.error?.reason._tag, "PeerClosed")
      assert.strictEqual(closed.error, error)
      assert.strictEqual(yield* Effect.flip(client.closed), error)
    }).pipe(Effect.provide(network)))

  it.effect("a peer that breaks the protocol is not asked again", () =>
    Effect.gen(function*() {
      const { client, peer } = yield* opened()
      const ending = yield* start(endOf(client))
      yield* peer.sendBytes(Uint8Array.of(0x83, 0))
      yield* peer.end
      const error = yield* Fiber.join(ending)
      assert(error !== "Done" && error.reason._tag === "ConnectionEnded")
      assert.strictEqual(error.reason.error?.reason._tag, "ProtocolError")
    }).pipe(Effect.provide(network)))

  it.effect("a terminal rejection fails messages with its response, and is asked once", () =>
    Effect.gen(function*() {
      const { client, nextRequest } = yield* open()
      const ending = yield* start(endOf(client))
      yield* Effect.flatMap(nextRequest, (request) => request.reject({ status: 401, headers: {}, body: "who?" }))
      const error = yield* Fiber.join(ending)
      assert(error !== "Done" && error.reason._tag === "ConnectError")
      assert.deepInclude(error.reason.reason, { _tag: "UpgradeRejected", status: 401, body: "who?" })
      assert.strictEqual(error.message, "ConnectError: UpgradeRejected (ws://test): HTTP 401")
    }).pipe(Effect.provide(network)))

  it.effect("a URL that is none fails at once", () =>
    Effect.gen(function*() {
      const { client } = yield* open({}, "http://test")
      const error = yield* Effect.flip(client.closed)
      assert(error.reason._tag === "ConnectError")
      assert.strictEqual(error.reason.reason._tag, "InvalidUrl")
    }).pipe(Effect.provide(network)))

  it.effect("a schedule that ends gives up with the last ending", () =>
    Effect.gen(function*() {
      const client = yield* Reconnect.connect("ws://nobody", {
        schedule: Schedule.max([Schedule.spaced("1 second"), Schedule.recurs(2)])
      })
      const ending = yield* start(Effect.flip(client.closed))
      yield* TestClock.adjust("1999 millis")
      assert.isTrue(yield* isWaiting(ending))
      yield* TestClock.adjust("1 millis")
      const error = yield* Fiber.join(ending)
      assert.isTrue(error.exhausted)
      assert(error.reason._tag === "ConnectError")
      assert.strictEqual(error.reason.reason._tag, "HostNotFound")
    }).pipe(Effect.provide(network)))

  it.effect("classify decides otherwise: 4401 is retried, and 1001 is the end", () =>
    Effect.gen(function*() {
      const { accept, client, peer } = yield* opened({
        classify: (ending) => {
          if (ending._tag !== "ConnectionEnded") return Reconnect.classify(ending)
          return ending.closeEvent.code === 1001 ? "done" : "retry"
        }
      })
      yield* peer.close(4401)
      yield* TestClock.adjust("1 second")
      const second = yield* accept
      yield* until(client, "Open")
      yield* second.close(1001)
      yield* client.closed
    }).pipe(Effect.provide(network)))

  it.effect("a connection that the user aborts is replaced", () =>
    Effect.gen(function*() {
      const { accept, client } = yield* opened()
      const { connection } = yield* until(client, "Open")
      yield* connection.abort
      const { ending } = yield* until(client, "Waiting")
      assert(ending._tag === "ConnectionEnded")
      assert.deepInclude(ending.closeEvent, { code: 1006, initiator: "Local" })
      yield* TestClock.adjust("1 second")
      yield* accept
      yield* until(client, "Open")
    }).pipe(Effect.provide(network)))
})

describe("Retry-After", () => {
  const cases: ReadonlyArray<readonly [what: string, header: string, seconds: number]> = [
    ["seconds", "120", 120],
    ["a date, by the clock", "Thu, 01 Jan 1970 00:00:30 GMT", 30],
    ["a date that has passed", "Wed, 31 Dec 1969 23:59:59 GMT", 0],
    ["more than an hour, which is too long", "99999999999", 3600],
    ["no time at all", "soon", 0],
    ["a negative number", "-5", 0]
  ]
  it.effect.each(cases)(
    "is waited for in addition to the schedule: %s",
    ([_, value, seconds]) =>
      Effect.gen(function*() {
        const { client, nextRequest } = yield* open()
        yield* Effect.flatMap(
          nextRequest,
          (request) => request.reject({ status: 503, headers: { "retry-after": value }, body: "" })
        )
        const { until: at } = yield* until(client, "Waiting")
        assert.strictEqual(at, (seconds + 1) * 1000)
        const asked = yield* start(nextRequest)
        yield* TestClock.adjust(Duration.millis(at - 1))
        assert.isTrue(yield* isWaiting(asked))
        yield* TestClock.adjust("1 millis")
        yield* Fiber.join(asked)
      }).pipe(Effect.provide(network))
  )
})

describe("the target", () => {
  it.effect("is computed for each attempt, with URL, headers and subprotocols of its own", () =>
    Effect.gen(function*() {
      const counter = yield* Ref.make(0)
      const target = Effect.map(Ref.updateAndGet(counter, (n) => n + 1), (n) => ({
        url: `ws://test/${n}`,
        headers: { authorization: `Bearer ${n}` },
        subprotocols: [`v${n}`]
      }))
      const { client, nextRequest } = yield* open({ headers: { cookie: "never" } }, target)
      for (const n of [1, 2, 3]) {
        const request = yield* nextRequest
        assert.strictEqual(request.url, `/${n}`)
        assert.deepInclude(request.headers, { authorization: `Bearer ${n}`, "sec-websocket-protocol": `v${n}` })
        assert.isUndefined(request.headers["cookie"])
        const peer = yield* request.accept({ subprotocol: `v${n}` })
        yield* until(client, "Open")
        yield* peer.reset
        yield* until(client, "Waiting")
        yield* TestClock.adjust("1 second")
      }
    }).pipe(Effect.provide(network)))

  it.effect("that fails is an attempt that failed, and so tried again", () =>
    Effect.gen(function*() {
      const counter = yield* Ref.make(0)
      const target = Effect.flatMap(Ref.getAndUpdate(counter, (n) => n + 1), (n) =>
        n === 0 ? Effect.fail("no token yet") : Effect.succeed({ url: "ws://test" }))
      const { accept, client } = yield* open({}, target)
      const { ending } = yield* until(client, "Waiting")
      assert.deepInclude(ending, { _tag: "AttemptFailed", step: "target", cause: "no token yet" })
      yield* TestClock.adjust("1 second")
      yield* accept
      yield* until(client, "Open")
    }).pipe(Effect.provide(network)))

  it.effect("that dies ends it for good: it is a bug, and not the server's", () =>
    Effect.gen(function*() {
      const { client } = yield* open({}, Effect.die("bug"))
      for (const end of [client.closed, client.pull, client.receive]) {
        const exit = yield* Effect.exit(end as Effect.Effect<unknown, unknown>)
        assert(Exit.isFailure(exit))
        assert.strictEqual(Cause.squash(exit.cause), "bug")
      }
      assert.strictEqual((yield* client.state)._tag, "Closed")
    }).pipe(Effect.provide(network)))
})

describe("onConnect", () => {
  it.effect("runs over each connection, before it is open and before what was buffered", () =>
    Effect.gen(function*() {
      const { accept, client } = yield* open({
        onConnect: Effect.fnUntraced(function*(connection) {
          yield* connection.send("login")
          assert.strictEqual(yield* connection.receive, "welcome")
          yield* connection.send("subscribe")
        })
      })
      yield* client.sendAll(["a", "b"])
      for (const expected of [["text subscribe", "text a", "text b"], ["text subscribe", "text c"]]) {
        const peer = yield* accept
        assert.deepStrictEqual(yield* frames(peer, 1), ["text login"])
        assert.strictEqual((yield* client.state)._tag, "Connecting")
        yield* peer.sendText("welcome", "news")
        assert.deepStrictEqual(yield* frames(peer, expected.length), expected)
        assert.strictEqual((yield* client.state)._tag, "Open")
        // What comes behind belongs to the messages.
        assert.strictEqual(yield* client.receive, "news")
        yield* peer.reset
        yield* until(client, "Waiting")
        yield* client.send("c")
        yield* TestClock.adjust("1 second")
      }
    }).pipe(Effect.provide(network)))

  it.effect("that fails is an attempt that failed: its connection is closed with 1011, and another one made", () =>
    Effect.gen(function*() {
      const counter = yield* Ref.make(0)
      const { accept, client } = yield* open({
        onConnect: () =>
          Effect.flatMap(Ref.getAndUpdate(counter, (n) => n + 1), (n) => n < 2 ? Effect.fail(`no ${n}`) : Effect.void)
      })
      yield* client.send("a")
      for (const n of [0, 1]) {
        const peer = yield* accept
        assert.strictEqual(yield* answerClose(peer), "close 1011")
        const { attempt, ending } = yield* until(client, "Waiting")
        assert.deepInclude(ending, { _tag: "AttemptFailed", step: "onConnect", cause: `no ${n}` })
        assert.strictEqual(attempt, n + 2)
        yield* TestClock.adjust("1 second")
      }
      assert.deepStrictEqual(yield* frames(yield* accept, 1), ["text a"])
    }).pipe(Effect.provide(network)))

  it.effect.each(
    [
      ["waits", () => Effect.never],
      ["reads", (connection: { readonly receive: Effect.Effect<unknown, unknown> }) => connection.receive]
    ] as const
  )("that %s when the server closes: the close code decides", ([_, onConnect]) =>
    Effect.gen(function*() {
      const { accept, client } = yield* open({ onConnect })
      yield* (yield* accept).close(4401, "who are you?")
      const error = yield* Effect.flip(client.closed)
      assert(error.reason._tag === "ConnectionEnded")
      assert.strictEqual(error.reason.closeEvent.code, 4401)
    }).pipe(Effect.provide(network)))

  it.effect("that succeeds while the server closes: what was sent is received, and what is buffered stays", () =>
    Effect.gen(function*() {
      const ready = yield* Deferred.make<void>()
      const { accept, client } = yield* open({ onConnect: () => Deferred.await(ready) })
      yield* client.send("c")
      const peer = yield* accept
      yield* peer.sendText("a", "b")
      yield* peer.sendClose(1012)
      assert.deepStrictEqual(yield* frames(peer, 1), ["close 1012"])
      yield* Deferred.succeed(ready, undefined)
      yield* settle
      yield* peer.end
      yield* until(client, "Waiting")
      const receiving = yield* start(client.pull)
      assert.isFalse(yield* isWaiting(receiving))
      assert.deepStrictEqual(yield* Fiber.join(receiving), ["a", "b"])
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual(yield* frames(yield* accept, 1), ["text c"])
    }).pipe(Effect.provide(network)))

  it.effect("what it forks lives as long as the connection", () =>
    Effect.gen(function*() {
      const alive = yield* Ref.make(0)
      const { accept, client } = yield* open({
        onConnect: () =>
          Effect.forkScoped(Effect.acquireUseRelease(
            Ref.update(alive, (n) => n + 1),
            () => Effect.never,
            () => Ref.update(alive, (n) => n - 1)
          ))
      })
      for (let i = 0; i < 2; i++) {
        const peer = yield* accept
        yield* until(client, "Open")
        yield* settle
        assert.strictEqual(yield* Ref.get(alive), 1)
        yield* peer.reset
        yield* until(client, "Waiting")
        assert.strictEqual(yield* Ref.get(alive), 0)
        yield* TestClock.adjust("1 second")
      }
    }).pipe(Effect.provide(network)))
})
