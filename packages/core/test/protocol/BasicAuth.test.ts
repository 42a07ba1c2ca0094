import { basicAuthorization, credentialsOf, withoutCredentials } from "@effect-ws/core/protocol/BasicAuth"
import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Base64 from "effect/encoding/Base64"
import * as Result from "effect/Result"

describe("basicAuthorization", () => {
  it("is that of the RFC's examples (RFC 7617, section 2 and 2.1)", () => {
    const aladdin = basicAuthorization({ username: "Aladdin", password: "open sesame" })
    assert.strictEqual(aladdin, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")
    assert.strictEqual(basicAuthorization({ username: "test", password: "123£" }), "Basic dGVzdDoxMjPCow==")
  })

  it.each([
    ["a:b", "c"],
    ["a\n", "b"],
    ["a", "b\r\nX-Y: z"],
    ["a", "\0"],
    ["\x7f", "b"]
  ])("there is none for %j and %j (RFC 7617, section 2)", (username, password) => {
    assert.isUndefined(basicAuthorization({ username, password }))
  })

  it.prop("the first colon divides what it carries", [Schema.String, Schema.String], ([username, password]) => {
    const value = basicAuthorization({ username, password })
    if (value === undefined) return
    const text = Result.getOrThrow(Base64.decodeString(value.slice("Basic ".length)))
    const colon = text.indexOf(":")
    const utf8 = (s: string) => new TextDecoder().decode(new TextEncoder().encode(s))
    assert.deepStrictEqual([text.slice(0, colon), text.slice(colon + 1)], [utf8(username), utf8(password)])
  })
})

describe("credentialsOf", () => {
  it.each([
    ["ws://a:b@h", "a", "b"],
    ["ws://a@h", "a", ""],
    ["ws://:b@h", "", "b"],
    ["ws://%C3%84:b%3Ac%40@h", "Ä", "b:c@"],
    ["ws://h", "", ""]
  ])("reads %s (RFC 3986, section 3.2.1)", (url, username, password) => {
    assert.deepStrictEqual(credentialsOf(new URL(url)), { username, password })
  })

  it.each(["ws://%E4@h", "ws://a:%@h"])("there are none where the encoding is malformed: %s", (url) => {
    assert.isUndefined(credentialsOf(new URL(url)))
  })
})

describe("withoutCredentials", () => {
  it.each([
    ["ws://user:secret@h/a?b", "ws://h/a?b"],
    ["ws://user@h/a", "ws://h/a"],
    ["ws://:secret@h", "ws://h/"],
    // Whatever makes it no URL of ours is often a password that is not percent-encoded.
    ["ws://user:pa#ss@host/", "ws://host/"],
    ["ws://user:pa/ss@host/", "ws://host/"],
    ["ws://user:1#ss@host/", "ws://user:1/"],
    ["ws://user:secret@host:99999/", "ws://host:99999/"],
    ["ws+unix://user:secret@/x", "ws+unix:///x"],
    // What has none is left as it is.
    ["ws://h", "ws://h"],
    ["WS://H/a@b", "WS://H/a@b"],
    ["no URL", "no URL"]
  ])("%s is shown as %s", (url, shown) => {
    assert.strictEqual(withoutCredentials(url), shown)
  })
})
