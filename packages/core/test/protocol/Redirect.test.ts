import { redirectOf } from "@effect-ws/core/protocol/Redirect"
import { parseUrl } from "@effect-ws/core/protocol/WebSocketUrl"
import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"

const urlOf = (text: string) => {
  const url = parseUrl(text)
  if (url._tag === "InvalidUrl") throw new Error(url.detail)
  return url
}

const follow = (from: string, location: string, status = 302) =>
  redirectOf(urlOf(from), { status, headers: { location } })

describe("redirectOf", () => {
  it.each([301, 302, 303, 307, 308])("reads %s (RFC 9110, section 15.4)", (status) => {
    assert.strictEqual(follow("ws://h/a", "/b", status)?._tag, "Redirect")
  })

  it.each([200, 204, 300, 304, 305, 306, 309, 401, 500])("%s is no redirect to follow", (status) => {
    assert.isUndefined(follow("ws://h/a", "/b", status))
  })

  it("without Location, there is none to follow (RFC 9110, section 10.2.2)", () => {
    assert.isUndefined(redirectOf(urlOf("ws://h/a"), { status: 302, headers: {} }))
  })

  it.each<readonly [from: string, location: string, to: string, isSameOrigin: boolean]>([
    ["ws://h/a/b?c", "d", "ws://h/a/d", true],
    ["ws://h/a/b?c", "/d?e=f", "ws://h/d?e=f", true],
    ["ws://h/a/b?c", "?d", "ws://h/a/b?d", true],
    ["ws://h/a/b?c", "../d", "ws://h/d", true],
    ["ws://h:81/a", "/d", "ws://h:81/d", true],
    ["ws://[::1]:81/a", "/d", "ws://[::1]:81/d", true],
    ["ws://h/a", "//g/d", "ws://g/d", false],
    ["ws://h/a", "ws://h/d", "ws://h/d", true],
    ["ws://h/a", "ws://H:80/d", "ws://h/d", true],
    ["ws://h/a", "http://h/d", "ws://h/d", true],
    ["ws://h/a", "HTTP://h/d", "ws://h/d", true],
    ["ws://h/a", "ws://h:81/d", "ws://h:81/d", false],
    ["ws://h/a", "http://h:443/d", "ws://h:443/d", false],
    ["ws://h/a", "https://h/d", "wss://h/d", false],
    ["ws://h/a", "wss://h/d", "wss://h/d", false],
    ["ws://h:443/a", "https://h:443/d", "wss://h/d", false],
    ["wss://h/a", "https://h/d", "wss://h/d", true],
    ["wss://h/a", "https://h:443/d", "wss://h/d", true],
    ["wss://h/a", "https://h:80/d", "wss://h:80/d", false],
    ["wss://h/a", "wss://sub.h/d", "wss://sub.h/d", false],
    // Neither is part of where it leads.
    ["ws://h/a", "/d#fragment", "ws://h/d", true],
    ["ws://h/a", "/d#", "ws://h/d", true],
    ["ws://h/a", "http://user:password@h/d", "ws://h/d", true]
  ])("from %s, %j leads to %s; at the same origin: %s", (from, location, to, isSameOrigin) => {
    assert.deepStrictEqual(follow(from, location), { _tag: "Redirect", url: urlOf(to), isSameOrigin })
  })

  it.each([
    ["wss://h/a", "ws://h/d"],
    ["wss://h/a", "http://h/d"],
    ["wss://h/a", "http://h:443/d"],
    ["wss://h/a", "ws://other/d"],
    ["wss+unix:/run/app.sock:/a", "ws://localhost/d"]
  ])("from %s, %s would give up TLS", (from, location) => {
    assert.deepStrictEqual(follow(from, location), { _tag: "InvalidRedirect", detail: "it leads from wss: to ws:" })
  })

  it.each([
    "ws+unix:/run/docker.sock:/d",
    "wss+unix:/run/docker.sock:/d",
    "file:///etc/passwd",
    "ftp://h/d",
    "javascript:alert(1)",
    "mailto:a@h",
    "http://",
    "http://a b/",
    "http://h:99999/",
    "http://{/"
  ])("%j is nowhere to go", (location) => {
    assert.strictEqual(follow("ws://h/a", location)?._tag, "InvalidRedirect")
  })

  it("stays at a Unix socket within its origin, and leaves it for another", () => {
    const within = follow("ws+unix:/run/app.sock:/a?b", "/d")
    const absolute = follow("ws+unix:/run/app.sock:/a?b", "http://localhost/d")
    assert.deepStrictEqual(within, { _tag: "Redirect", url: urlOf("ws+unix:/run/app.sock:/d"), isSameOrigin: true })
    assert.deepStrictEqual(absolute, within)
    assert.deepStrictEqual(follow("ws+unix:/run/app.sock:/a", "ws://h/d"), {
      _tag: "Redirect",
      url: urlOf("ws://h/d"),
      isSameOrigin: false
    })
  })

  it.prop("any Location is an answer, never an exception, and never gives up TLS", [Schema.String], ([location]) => {
    const redirect = follow("wss://h/a", location)
    if (redirect?._tag === "Redirect") {
      assert.isTrue(redirect.url.secure)
      assert.isUndefined(redirect.url.socketPath)
    }
  })
})
