import { HandshakeRequest, WebSocketClient, WebSocketServer } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { certificates } from "./certificates.ts"
import { connect, echo, start, withTlsClient } from "./fixture.ts"
import { listenRaw, listenTls, type RawPeer, switching } from "./rawPeer.ts"

type Options = WebSocketClient.ConnectOptions

const redirect = (location: string, status = 302) =>
  `HTTP/1.1 ${status} Elsewhere\r\nLocation: ${location}\r\nContent-Length: 5\r\n\r\nthere`

/** Answers the next request with a redirect; tells the request. */
const redirecting = Effect.fnUntraced(function*(
  accept: Effect.Effect<RawPeer>,
  location: string,
  status?: number
) {
  const peer = yield* accept
  const head = yield* Effect.orDie(peer.head)
  yield* peer.send(redirect(location, status))
  // One socket for each request, and none is left.
  yield* peer.rest
  return head
})

/** Accepts the next request; tells it. */
const accepting = Effect.fnUntraced(function*(accept: Effect.Effect<RawPeer>) {
  const peer = yield* accept
  const head = yield* Effect.orDie(peer.head)
  yield* peer.send(switching(head))
  return head
})

const failure = (url: string, options: Options) =>
  Effect.map(Effect.flip(connect(url, options)), ({ reason }) => reason)

const header = (head: string, name: string) => new RegExp(`^${name}: (.*)\r$`, "im").exec(head)?.[1]

describe("a redirect", () => {
  it.live("is not followed unless it is asked for: UpgradeRejected", () =>
    Effect.gen(function*() {
      const { accept, url } = yield* listenRaw
      for (const options of [{}, { maxRedirects: 0 }]) {
        const failing = yield* Effect.forkChild(failure(url, options))
        yield* redirecting(accept, "/there")
        const reason = yield* Fiber.join(failing)
        if (reason._tag !== "UpgradeRejected") return assert.fail(reason._tag)
        assert.deepStrictEqual([reason.status, reason.headers["location"], reason.body], [302, "/there", "there"])
      }
    }))

  it.live.each([301, 302, 303, 307, 308])(
    "%s is followed with a request of its own (RFC 9110, section 15.4)",
    (status) =>
      Effect.gen(function*() {
        const { accept, port, url } = yield* listenRaw
        const connecting = yield* Effect.forkChild(
          connect(`${url}/a/b?c`, { maxRedirects: 1, subprotocols: [], headers: { "X-Y": "z" } })
        )
        const first = yield* redirecting(accept, "d?e", status)
        const second = yield* accepting(accept)
        const connection = yield* Fiber.join(connecting)
        assert.match(first, /^GET \/a\/b\?c HTTP/)
        assert.match(second, /^GET \/a\/d\?e HTTP/)
        assert.strictEqual(connection.request.url, "/a/d?e")
        assert.strictEqual(header(second, "host"), `127.0.0.1:${port}`)
        assert.strictEqual(header(second, "x-y"), "z")
        // Section 4.1, item 7 of RFC 6455.
        assert.notStrictEqual(header(first, "sec-websocket-key"), header(second, "sec-websocket-key"))
      })
  )

  it.live.each(["http", "ws"])("may lead to another server: %s", (scheme) =>
    Effect.gen(function*() {
      const from = yield* listenRaw
      const to = yield* start(echo)
      const connecting = yield* Effect.forkChild(connect(from.url, { maxRedirects: 1 }))
      yield* redirecting(from.accept, `${scheme}://127.0.0.1:${to.port}/`)
      const connection = yield* Fiber.join(connecting)
      yield* connection.send("hello")
      assert.strictEqual(yield* connection.receive, "hello")
    }))

  it.live.each(["https", "wss"])("may lead from ws: to wss: (%s)", (scheme) =>
    Effect.gen(function*() {
      const { authority, server: tls } = yield* certificates
      const from = yield* listenRaw
      const to = yield* start(echo, { tls })
      const connecting = yield* Effect.forkChild(
        WebSocketClient.connect(from.url, { maxRedirects: 1 }).pipe(
          Effect.tap((connection) => connection.send("hello")),
          Effect.flatMap((connection) => connection.receive),
          Effect.scoped,
          withTlsClient({ ca: authority.cert })
        )
      )
      yield* redirecting(from.accept, `${scheme}://127.0.0.1:${to.port}/`)
      assert.strictEqual(yield* Fiber.join(connecting), "hello")
    }))

  it.live.each(["ws", "http"])(
    "never leads from wss: to ws:, and nobody is asked there: %s",
    (scheme) =>
      Effect.gen(function*() {
        const { authority, server: tls } = yield* certificates
        const from = yield* listenTls(tls)
        const to = yield* listenRaw
        const failing = yield* Effect.forkChild(
          WebSocketClient.connect(from.url, { maxRedirects: 5 }).pipe(
            Effect.scoped,
            Effect.flip,
            withTlsClient({ ca: authority.cert })
          )
        )
        const location = `${scheme}://127.0.0.1:${to.port}/`
        yield* redirecting(from.accept, location)
        const { message, reason } = yield* Fiber.join(failing)
        assert.isTrue(reason._tag === "RedirectRefused" && reason.location === location)
        assert.strictEqual(message, `RedirectRefused (${from.url}): it leads from wss: to ws:`)
      })
  )

  it.live("to what is no WebSocket is RedirectRefused", () =>
    Effect.gen(function*() {
      const { accept, url } = yield* listenRaw
      for (const location of ["ftp://127.0.0.1/", "ws+unix:/run/docker.sock:/", "http://["]) {
        const failing = yield* Effect.forkChild(failure(url, { maxRedirects: 5 }))
        yield* redirecting(accept, location)
        const reason = yield* Fiber.join(failing)
        assert.isTrue(reason._tag === "RedirectRefused" && reason.location === location)
      }
    }))

  it.live("without Location is an answer like any other: UpgradeRejected", () =>
    Effect.gen(function*() {
      const { accept, url } = yield* listenRaw
      const failing = yield* Effect.forkChild(failure(url, { maxRedirects: 5 }))
      const peer = yield* accept
      yield* Effect.andThen(peer.head, peer.send("HTTP/1.1 302 Elsewhere\r\nContent-Length: 0\r\n\r\n"))
      assert.strictEqual((yield* Fiber.join(failing))._tag, "UpgradeRejected")
    }))
})

describe("redirects without end", () => {
  it.live.each([1, 3])("are followed %s times, and then RedirectRefused", (maxRedirects) =>
    Effect.gen(function*() {
      const { accept, url } = yield* listenRaw
      const failing = yield* Effect.forkChild(failure(url, { maxRedirects }))
      for (let i = 0; i <= maxRedirects; i++) yield* redirecting(accept, "/")
      const reason = yield* Fiber.join(failing)
      assert.isTrue(reason._tag === "RedirectRefused" && reason.detail === `more than ${maxRedirects} redirects`)
    }))

  it.live("have to be over within the connect timeout, all of them together", () =>
    Effect.gen(function*() {
      const { accept, url } = yield* listenRaw
      const failing = yield* Effect.forkChild(
        failure(url, { maxRedirects: Number.MAX_SAFE_INTEGER, connectTimeout: "100 millis" })
      )
      yield* Effect.forkChild(Effect.forever(Effect.delay(redirecting(accept, "/"), "1 millis")))
      assert.strictEqual((yield* Fiber.join(failing))._tag, "ConnectTimeout")
    }))

  it.live("leave no socket when they are interrupted", () =>
    Effect.gen(function*() {
      const { accept, url } = yield* listenRaw
      const connecting = yield* Effect.forkChild(failure(url, { maxRedirects: 5 }))
      yield* redirecting(accept, "/")
      const peer = yield* accept
      yield* peer.head
      yield* Fiber.interrupt(connecting)
      yield* peer.rest
    }))
})

describe("what is secret in a request", () => {
  const secrets: Options = {
    headers: { "Authorization": "Bearer t", "cookie": "s=1", "Proxy-Authorization": "Basic p", "X-Api-Key": "k" },
    maxRedirects: 5
  }
  const names = ["authorization", "cookie", "proxy-authorization", "x-api-key"]
  const sent = (head: string) => names.filter((name) => header(head, name) !== undefined)

  it.live("stays with the origin of the URL", () =>
    Effect.gen(function*() {
      const here = yield* listenRaw
      const there = yield* listenRaw
      const connecting = yield* Effect.forkChild(connect(here.url, secrets))
      assert.deepStrictEqual(sent(yield* redirecting(here.accept, "/same")), names)
      assert.deepStrictEqual(sent(yield* redirecting(here.accept, `${here.url}/same`)), names)
      assert.deepStrictEqual(sent(yield* redirecting(here.accept, `${there.url}/other`)), names)
      // Who was sent away might have been sent back by somebody else.
      assert.deepStrictEqual(sent(yield* redirecting(there.accept, `${here.url}/back`)), [])
      assert.deepStrictEqual(sent(yield* accepting(here.accept)), [])
      yield* Fiber.join(connecting)
    }))

  it.live("does not go to another port of the same host, nor to another scheme", () =>
    Effect.gen(function*() {
      const { authority, server: tls } = yield* certificates
      const here = yield* listenRaw
      const there = yield* listenTls(tls)
      yield* Effect.forkChild(
        WebSocketClient.connect(here.url, secrets).pipe(Effect.scoped, withTlsClient({ ca: authority.cert }))
      )
      yield* redirecting(here.accept, there.url.replace("wss:", "https:"))
      assert.deepStrictEqual(sent(yield* accepting(there.accept)), [])
    }))

  it.live("goes nowhere from the URL of a redirect", () =>
    Effect.gen(function*() {
      const { accept, url } = yield* listenRaw
      yield* Effect.forkChild(connect(url, { maxRedirects: 5, basicAuth: true }))
      yield* redirecting(accept, url.replace("ws://", "http://user:password@"))
      assert.deepStrictEqual(sent(yield* accepting(accept)), [])
    }))
})

describe("a redirect and a Unix socket", () => {
  const atSocket = Effect.gen(function*() {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "redirect-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
    )
    const Moved = WebSocketServer.serve(() => Effect.void, {
      path: "/moved",
      handshake: () => new HandshakeRequest.HandshakeRejected({ status: 308, headers: { location: "/" } })
    })
    return yield* start(Layer.merge(echo, Moved), { socketPath: join(folder, "app.sock") })
  })

  it.live("that it comes from: it stays there", () =>
    Effect.gen(function*() {
      const { url } = yield* atSocket
      const connection = yield* connect(`${url}:/moved`, { maxRedirects: 1 })
      yield* connection.send("hello")
      assert.strictEqual(yield* connection.receive, "hello")
    }))

  it.live("that it leads to from elsewhere: RedirectRefused", () =>
    Effect.gen(function*() {
      const { url: location } = yield* atSocket
      const { accept, url } = yield* listenRaw
      const failing = yield* Effect.forkChild(failure(url, { maxRedirects: 1 }))
      yield* redirecting(accept, location)
      assert.strictEqual((yield* Fiber.join(failing))._tag, "RedirectRefused")
    }))
})

describe("the user name and password of a URL", () => {
  const withUser = (url: string, userinfo = "%C3%84da:p%3Ass") => url.replace("//", `//${userinfo}@`)
  const basic = `Basic ${Buffer.from("Äda:p:ss").toString("base64")}`

  it.live("are not sent unless it is asked for", () =>
    Effect.gen(function*() {
      const { accept, url } = yield* listenRaw
      yield* Effect.forkChild(connect(withUser(url)))
      assert.isUndefined(header(yield* accepting(accept), "authorization"))
    }))

  it.live("are sent with `basicAuth` (RFC 7617)", () =>
    Effect.gen(function*() {
      const { accept, port, url } = yield* listenRaw
      yield* Effect.forkChild(connect(withUser(url), { basicAuth: true }))
      const head = yield* accepting(accept)
      assert.strictEqual(header(head, "authorization"), basic)
      assert.strictEqual(header(head, "host"), `127.0.0.1:${port}`)
    }))

  it.live("give way to a header", () =>
    Effect.gen(function*() {
      const { accept, url } = yield* listenRaw
      yield* Effect.forkChild(connect(withUser(url), { basicAuth: true, headers: { Authorization: "Bearer t" } }))
      assert.strictEqual(header(yield* accepting(accept), "authorization"), "Bearer t")
    }))

  it.live("need not be there", () =>
    Effect.gen(function*() {
      const { accept, url } = yield* listenRaw
      yield* Effect.forkChild(connect(url, { basicAuth: true }))
      assert.isUndefined(header(yield* accepting(accept), "authorization"))
    }))

  it.live("stay with their origin", () =>
    Effect.gen(function*() {
      const here = yield* listenRaw
      const there = yield* listenRaw
      yield* Effect.forkChild(connect(withUser(here.url), { basicAuth: true, maxRedirects: 2 }))
      assert.strictEqual(header(yield* redirecting(here.accept, "/same"), "authorization"), basic)
      assert.strictEqual(header(yield* redirecting(here.accept, there.url), "authorization"), basic)
      assert.isUndefined(header(yield* accepting(there.accept), "authorization"))
    }))

  it.live.each(["%E4:secret", "a%3Ab:secret", "a:secret%0A"])(
    "that cannot be sent are InvalidUrl: %s",
    (userinfo) =>
      Effect.gen(function*() {
        const reason = yield* failure(`ws://${userinfo}@127.0.0.1:1`, { basicAuth: true })
        assert.strictEqual(reason._tag, "InvalidUrl")
        assert.notInclude(JSON.stringify(reason), "secret")
      })
  )

  it.live("are not shown by errors", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(connect("ws://user:secret@127.0.0.1:1/a"))
      assert.strictEqual(error.url, "ws://127.0.0.1:1/a")
      assert.notInclude(error.message, "secret")
    }))
})
