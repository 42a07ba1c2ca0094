import { isOriginAllowed, type OriginPolicy } from "@effect-ws/core/protocol/Origin"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"

const sameOrigin: OriginPolicy = { allow: "same-origin" }

const malformed = [
  "",
  "example.com",
  "https://",
  "https:example.com",
  "https://example.com/",
  "https://example.com/path",
  "https://example.com?q",
  "https://example.com#f",
  "https://user@example.com",
  "https://example.com https://example.com",
  "https://example.com, https://example.com",
  " https://example.com",
  "https://example.com:port",
  "https://example.com:99999",
  "https://exa mple.com",
  "https://example.com\u0000",
  "https://[::1",
  "://example.com"
]

describe("Origin", () => {
  describe("same-origin", () => {
    it.each([
      ["https://example.com", "example.com"],
      ["http://example.com", "example.com"],
      ["https://example.com", "example.com:443"],
      ["http://example.com", "example.com:80"],
      ["https://example.com:8443", "example.com:8443"],
      ["http://example.com:443", "example.com:443"],
      ["HTTPS://Example.COM", "eXample.com"],
      ["http://[::1]:3000", "[::1]:3000"],
      ["http://[::1]", "[0:0::1]:80"],
      ["http://127.0.0.1:3000", "127.0.0.1:3000"]
    ])("§10.2: %s is the origin of Host %s", (origin, host) => {
      assert.isTrue(isOriginAllowed(origin, host, sameOrigin))
    })

    it.each([
      ["https://evil.example", "example.com"],
      ["https://sub.example.com", "example.com"],
      ["https://example.com.evil.example", "example.com"],
      ["https://notexample.com", "example.com"],
      ["https://example.com:8443", "example.com"],
      ["https://example.com", "example.com:8443"],
      ["https://example.com", "example.com:80"],
      ["http://example.com", "example.com:443"],
      ["http://localhost", "127.0.0.1"],
      ["null", "example.com"],
      ["null", "null"],
      ["chrome-extension://abcdef", "abcdef"],
      ["app://example.com", "example.com"],
      ["ws://example.com", "example.com"]
    ])("§10.2: %s is not the origin of Host %s", (origin, host) => {
      assert.isFalse(isOriginAllowed(origin, host, sameOrigin))
    })

    it.each(malformed)("RFC 6454 §7.1: an origin that is malformed is refused: %j", (origin) => {
      assert.isFalse(isOriginAllowed(origin, "example.com", sameOrigin))
    })

    it.each([undefined, "", "user@example.com", "example.com/", "example.com:port", "[::1", "evil@example.com"])(
      "§4.2.1: without a valid Host nothing is the same origin: %j",
      (host) => {
        assert.isFalse(isOriginAllowed("https://example.com", host, sameOrigin))
      }
    )
  })

  describe("list", () => {
    const policy: OriginPolicy = { allow: ["https://example.com", "http://localhost:3000", "chrome-extension://abc"] }

    it.each([
      ["https://example.com", true],
      ["HTTPS://EXAMPLE.COM", true],
      ["http://localhost:3000", true],
      ["chrome-extension://abc", true],
      ["http://example.com", false],
      ["https://example.com:8443", false],
      ["https://example.com.evil.example", false],
      ["https://sub.example.com", false],
      ["http://localhost", false],
      ["null", false]
    ])("§4.2.2: %s: %s", (origin, allowed) => {
      assert.strictEqual(isOriginAllowed(origin, "other.example", policy), allowed)
    })

    it("§10.2: the server's own host is not in the list by itself", () => {
      assert.isFalse(isOriginAllowed("https://own.example", "own.example", policy))
    })

    it("RFC 6454 §6.2: the opaque origin passes only when listed", () => {
      assert.isTrue(isOriginAllowed("null", "example.com", { allow: ["null"] }))
      assert.isFalse(isOriginAllowed("NULL", "example.com", { allow: ["null"] }))
    })

    it.each(malformed)("RFC 6454 §7.1: an origin that is malformed is refused, even when listed: %j", (origin) => {
      assert.isFalse(isOriginAllowed(origin, "example.com", { allow: [origin] }))
    })
  })

  describe("any", () => {
    it.each(["https://evil.example", "null", "garbage", undefined])("§10.2: %j passes", (origin) => {
      assert.isTrue(isOriginAllowed(origin, "example.com", { allow: "any" }))
    })
  })

  it.each<[OriginPolicy["allow"]]>([["any"], ["same-origin"], [["https://example.com"]]])(
    "§4.2.1: without Origin (not a browser), %j passes, unless an origin is required",
    (allow) => {
      assert.isTrue(isOriginAllowed(undefined, "example.com", { allow }))
      assert.isTrue(isOriginAllowed(undefined, "example.com", { allow, requireOrigin: false }))
      assert.isFalse(isOriginAllowed(undefined, "example.com", { allow, requireOrigin: true }))
      assert.isTrue(isOriginAllowed("https://example.com", "example.com", { allow, requireOrigin: true }))
    }
  )

  it.prop("any pair of strings is decided, never thrown at", [Schema.String, Schema.String], ([a, b]) => {
    isOriginAllowed(a, b, sameOrigin)
    isOriginAllowed(`https://${a}`, b, sameOrigin)
    isOriginAllowed(`https://${a}`, `${b}:443`, sameOrigin)
    isOriginAllowed(a, b, { allow: [a, b] })
  })
})
