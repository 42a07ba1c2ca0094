import { WebSocketClient } from "@effect-ws/core"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { certificates } from "./certificates.ts"
import { echo, start } from "./fixture.ts"
import { isMissing, startMicrosocks, startTinyproxy, withClient } from "./proxies.ts"

/** Servers to reach, with and without TLS. */
const servers = Effect.gen(function*() {
  const { authority, server } = yield* certificates
  const plain = yield* start(echo)
  const secure = yield* start(echo, { tls: server })
  return { ca: authority.cert, plain, secure, urls: [plain.url, secure.url] }
})

const talk = Effect.fnUntraced(function*(url: string) {
  const connection = yield* WebSocketClient.connect(url)
  const message = "through the proxy ".repeat(10_000)
  yield* connection.send(message)
  assert.strictEqual(yield* connection.receive, message)
  yield* connection.close()
  assert.isTrue((yield* connection.closed).wasClean)
}, Effect.scoped)

const failure = (url: string) =>
  Effect.map(Effect.flip(Effect.scoped(WebSocketClient.connect(url))), ({ reason }) => reason)

describe.skipIf(isMissing("tinyproxy", "tinyproxy"))("tinyproxy", () => {
  it.live("leads to servers, with and without TLS (RFC 9110, section 9.3.6)", () =>
    Effect.gen(function*() {
      const { output, port } = yield* startTinyproxy()
      const { ca, plain, secure, urls } = yield* servers
      yield* Effect.forEach(urls, talk).pipe(withClient({ proxy: `http://127.0.0.1:${port}`, tls: { ca } }))
      for (const { port } of [plain, secure]) assert.include(output.text, `CONNECT 127.0.0.1:${port} HTTP/1.1`)
    }))

  it.live("wants credentials, and takes them from the proxy's URL (RFC 7617)", () =>
    Effect.gen(function*() {
      const { port } = yield* startTinyproxy("ada pass.word")
      const { ca, urls } = yield* servers
      const through = (userinfo: string) => withClient({ proxy: `http://${userinfo}127.0.0.1:${port}`, tls: { ca } })
      yield* Effect.forEach(urls, talk).pipe(through("ada:p%61ss.word@"))
      const proxy = `http://127.0.0.1:${port}`
      for (const userinfo of ["", "ada:wrong@"]) {
        const reason = yield* failure(urls[0]!).pipe(through(userinfo))
        assert.strictEqual(reason._tag === "ProxyAuthenticationRequired" && reason.proxy, proxy)
      }
    }))

  it.live("that finds nobody at the server's address says so: ProxyRefused", () =>
    Effect.gen(function*() {
      const { port } = yield* startTinyproxy()
      const reason = yield* failure("ws://127.0.0.1:1").pipe(withClient({ proxy: `http://127.0.0.1:${port}` }))
      assert.isTrue(reason._tag === "ProxyRefused" && reason.code >= 500)
    }))
})

describe.skipIf(isMissing("microsocks", "microsocks"))("microsocks", () => {
  it.live.each(["socks5", "socks5h"])(
    "leads to servers, with and without TLS (RFC 1928): %s",
    (scheme) =>
      Effect.gen(function*() {
        const { port } = yield* startMicrosocks()
        const { ca, urls } = yield* servers
        const byName = urls.map((url) => url.replace("127.0.0.1", "localhost"))
        yield* Effect.forEach([...urls, ...byName], talk).pipe(
          withClient({ proxy: `${scheme}://127.0.0.1:${port}`, tls: { ca } })
        )
      })
  )

  it.live("wants credentials, and takes them from the proxy's URL (RFC 1929)", () =>
    Effect.gen(function*() {
      const { port } = yield* startMicrosocks(["ada", "p@ss:word"])
      const { ca, urls } = yield* servers
      const through = (userinfo: string) => withClient({ proxy: `socks5h://${userinfo}127.0.0.1:${port}`, tls: { ca } })
      yield* Effect.forEach(urls, talk).pipe(through("ada:p%40ss%3Aword@"))
      const proxy = `socks5h://127.0.0.1:${port}`
      for (const userinfo of ["", "ada:wrong@"]) {
        const reason = yield* failure(urls[0]!).pipe(through(userinfo))
        assert.strictEqual(reason._tag === "ProxyAuthenticationRequired" && reason.proxy, proxy)
      }
    }))

  it.live("that finds nobody at the server's address says so: ProxyRefused (RFC 1928, section 6)", () =>
    Effect.gen(function*() {
      const { port } = yield* startMicrosocks()
      const reason = yield* failure("ws://127.0.0.1:1").pipe(withClient({ proxy: `socks5://127.0.0.1:${port}` }))
      assert.deepInclude(reason, { _tag: "ProxyRefused", code: 5 })
    }))
})
