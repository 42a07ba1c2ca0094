import { NodeProxy } from "@effect-ws/node"
import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"

const { isExempt } = NodeProxy

describe("no_proxy", () => {
  it.each<readonly [noProxy: string, host: string, isExempt: boolean]>([
    // Everything, and nothing.
    ["*", "example.com", true],
    ["*", "::1", true],
    ["", "example.com", false],
    [" , ,", "example.com", false],
    [".", "example.com", false],
    ["*.", "example.com", false],
    // Domains, and all below them.
    ["example.com", "example.com", true],
    ["example.com", "www.example.com", true],
    ["example.com", "a.b.example.com", true],
    ["example.com", "notexample.com", false],
    ["example.com", "example.com.evil.example", false],
    ["www.example.com", "example.com", false],
    [".example.com", "example.com", true],
    [".example.com", "www.example.com", true],
    [".example.com", "notexample.com", false],
    ["*.example.com", "www.example.com", true],
    ["*.example.com", "notexample.com", false],
    ["com", "example.com", true],
    ["om", "example.com", false],
    ["Example.COM", "example.com", true],
    ["example.com.", "example.com", true],
    ["example.com", "example.com.", true],
    ["localhost", "localhost", true],
    ["localhost", "127.0.0.1", false],
    // Lists.
    ["a.example,b.example", "b.example", true],
    ["a.example, b.example", "b.example", true],
    ["a.example b.example", "b.example", true],
    ["a.example,b.example", "c.example", false],
    // Addresses.
    ["127.0.0.1", "127.0.0.1", true],
    ["127.0.0.1", "127.0.0.11", false],
    ["0.0.1", "127.0.0.1", false],
    [".0.0.1", "127.0.0.1", false],
    ["::1", "::1", true],
    ["[::1]", "::1", true],
    ["0:0::1", "::1", true],
    ["::1", "::2", false],
    // Networks.
    ["10.0.0.0/8", "10.1.2.3", true],
    ["10.0.0.0/8", "11.1.2.3", false],
    ["192.168.16.0/20", "192.168.31.255", true],
    ["192.168.16.0/20", "192.168.32.0", false],
    ["10.1.2.3/0", "11.1.2.3", true],
    ["10.1.2.3/32", "10.1.2.3", true],
    ["10.1.2.3/33", "10.1.2.3", false],
    ["10.1.2.3/", "10.1.2.3", false],
    ["10.1.2.3/x", "10.1.2.3", false],
    ["10.1.2.3/8/8", "10.1.2.3", false],
    ["10.0.0.0/8", "10.example", false],
    ["fe80::/10", "fe80::1", true],
    ["fe80::/10", "ff80::1", false],
    ["fe80::/129", "fe80::", false],
    // Ports.
    ["example.com:8080", "example.com", true],
    ["example.com:8081", "example.com", false],
    [".example.com:8080", "www.example.com", true],
    ["*:8080", "example.com", true],
    ["*:8081", "example.com", false],
    ["10.0.0.0/8:8080", "10.1.2.3", true],
    ["10.0.0.0/8:8081", "10.1.2.3", false],
    ["[::1]:8080", "::1", true],
    ["[::1]:8081", "::1", false],
    ["[::1", "::1", false],
    ["example.com:", "example.com", false]
  ])("%j and %s at port 8080: %s", (noProxy, host, expected) => {
    assert.strictEqual(isExempt(noProxy, { host, port: 8080 }), expected)
  })

  it.prop("anything in it is an answer, never an exception", [Schema.String, Schema.String], ([noProxy, host]) => {
    assert.isBoolean(isExempt(noProxy, { host, port: 80 }))
    assert.isTrue(isExempt(`${noProxy} *`, { host, port: 80 }))
  })

  const label = Schema.String.pipe(Schema.check(Schema.isPattern(/^[a-z]{1,8}$/)))

  it.prop(
    "a domain exempts itself and what is below it, and nothing that only looks like it",
    [label, label],
    ([a, b]) => {
      const noProxy = `${a}.example`
      assert.isTrue(isExempt(noProxy, { host: `${a}.example`, port: 80 }))
      assert.isTrue(isExempt(noProxy, { host: `${b}.${a}.example`, port: 80 }))
      assert.isFalse(isExempt(noProxy, { host: `${b}${a}.example`, port: 80 }))
      assert.isFalse(isExempt(noProxy, { host: `${a}.example.${b}`, port: 80 }))
    }
  )
})
