import { makeResolver, type Origination, type TrustedProxies } from "@effect-ws/core/protocol/Forwarded"
import { assert, describe, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"

const direct: Origination = { address: "10.0.0.1", secure: false, host: "inner:8080" }

const resolve = (proxies: TrustedProxies | undefined, headers: Record<string, string>, request = direct) => {
  const resolver = makeResolver(proxies)
  if (typeof resolver !== "function") return assert.fail(`${resolver.address} is refused`)
  return resolver({ ...request, isUnix: request.address === undefined, headers })
}

const trusted = ["10.0.0.0/8", "2001:db8:0:1::/64", "192.0.2.7"]
const x: TrustedProxies = { addresses: trusted }
const rfc7239: TrustedProxies = { addresses: trusted, headers: "forwarded" }

describe("without a trusted proxy, headers are not believed", () => {
  const headers = {
    "x-forwarded-for": "198.51.100.1",
    "x-forwarded-host": "evil.example",
    "x-forwarded-proto": "https",
    forwarded: "for=198.51.100.1;host=evil.example;proto=https"
  }
  const from = (address: string | undefined): Origination => ({ ...direct, address })

  it.each<readonly [string, TrustedProxies | undefined, string | undefined]>([
    ["by default", undefined, "10.0.0.1"],
    ["from another address", x, "203.0.113.9"],
    ["from another address, Forwarded", rfc7239, "203.0.113.9"],
    ["from a neighbour of a trusted address", x, "192.0.2.8"],
    ["from another network of the same bits", { addresses: ["0a00::/8"] }, "10.0.0.1"],
    ["from a Unix socket", x, undefined],
    ["from what is no address", x, "client"]
  ])("%s", (_, proxies, address) => {
    assert.deepStrictEqual(resolve(proxies, headers, from(address)), from(address))
  })

  it("of two families of headers, only the one that the proxies write is read", () => {
    assert.deepStrictEqual(resolve(x, { forwarded: headers.forwarded }), direct)
    assert.deepStrictEqual(resolve(rfc7239, { "x-forwarded-for": "198.51.100.1" }), direct)
  })

  it("and an address has one form", () => {
    assert.strictEqual((resolve(undefined, {}, from("::ffff:198.51.100.1")) as Origination).address, "198.51.100.1")
    assert.strictEqual((resolve(undefined, {}, from("2001:DB8:0:0::1")) as Origination).address, "2001:db8::1")
  })
})

describe("the client's address is the rightmost that is no trusted proxy's", () => {
  const lists: ReadonlyArray<readonly [list: string, client: string | undefined]> = [
    ["198.51.100.1", "198.51.100.1"],
    ["6.6.6.6, 198.51.100.1", "198.51.100.1"],
    ["10.0.0.99, 198.51.100.1", "198.51.100.1"],
    ["198.51.100.1, 10.0.0.2", "198.51.100.1"],
    ["6.6.6.6, 198.51.100.1, 192.0.2.7, 10.0.0.2", "198.51.100.1"],
    ["10.0.0.3, 10.0.0.2", "10.0.0.3"],
    ["198.51.100.1, 2001:db8:0:1::5", "198.51.100.1"],
    ["2001:db8::5, 10.0.0.2", "2001:db8::5"],
    ["198.51.100.1, ::ffff:10.0.0.2", "198.51.100.1"],
    ["unknown", undefined],
    ["198.51.100.1, unknown", undefined],
    ["198.51.100.1, unknown, 10.0.0.2", undefined],
    ["unknown, 198.51.100.1", "198.51.100.1"],
    ["198.51.100.1, 999.1.1.1", undefined],
    ["198.51.100.1, 10.0.0.2.evil.example", undefined],
    ["198.51.100.1:4711", "198.51.100.1"],
    ["[2001:db8::5]:4711", "2001:db8::5"],
    ["[2001:db8::5]", "2001:db8::5"],
    [" , 198.51.100.1 ,, 10.0.0.2 ", "198.51.100.1"]
  ]

  it.each(lists)("X-Forwarded-For: %s", (list, address) => {
    assert.deepStrictEqual(resolve(x, { "x-forwarded-for": list }), { ...direct, address })
  })

  it.each(lists)("Forwarded (RFC 7239), quoted: %s", (list, address) => {
    const forwarded = list.split(",").map((node) => node.trim() && `For="${node.trim()}"`).join(",")
    assert.deepStrictEqual(resolve(rfc7239, { forwarded }), { ...direct, address })
  })

  it("at a Unix socket, if that is trusted", () => {
    const atSocket = { ...direct, address: undefined }
    const headers = { "x-forwarded-for": "198.51.100.1" }
    const resolved = resolve({ addresses: ["unix"] }, headers, atSocket)
    assert.deepStrictEqual(resolved, { ...direct, address: "198.51.100.1" })
    assert.deepStrictEqual(resolve({ addresses: ["unix"] }, headers), direct)
  })

  it("but not at a TCP socket whose other end is gone", () => {
    const resolver = makeResolver({ addresses: ["unix"] })
    if (typeof resolver !== "function") return assert.fail(resolver.address)
    const reset = { ...direct, address: undefined }
    const headers = { "x-forwarded-for": "198.51.100.1", "x-forwarded-host": "evil.example" }
    assert.deepStrictEqual(resolver({ ...reset, isUnix: false, headers }), reset)
  })

  it("a proxy that forwards nothing speaks for itself", () => {
    assert.deepStrictEqual(resolve(x, {}), direct)
    assert.deepStrictEqual(resolve(x, { "x-forwarded-for": " , " }), direct)
    assert.deepStrictEqual(resolve(rfc7239, {}), direct)
  })

  it("however long the list that a client sends", () => {
    const list = `${"6.6.6.6,".repeat(100_000)}198.51.100.1,10.0.0.2`
    assert.deepStrictEqual(resolve(x, { "x-forwarded-for": list }), { ...direct, address: "198.51.100.1" })
    const forwarded = `${"for=6.6.6.6,".repeat(100_000)}for=198.51.100.1,for=10.0.0.2`
    assert.deepStrictEqual(resolve(rfc7239, { forwarded }), { ...direct, address: "198.51.100.1" })
  })
})

describe("host and scheme are what the client's own proxy noted", () => {
  it.each<readonly [string, Record<string, string>, Partial<Origination>]>([
    ["one value each", {
      "x-forwarded-for": "198.51.100.1",
      "x-forwarded-host": "a.example",
      "x-forwarded-proto": "https"
    }, { host: "a.example", secure: true }],
    ["appended by each proxy", {
      "x-forwarded-for": "198.51.100.1, 10.0.0.2",
      "x-forwarded-host": "a.example, b.internal",
      "x-forwarded-proto": "https, http"
    }, { host: "a.example", secure: true }],
    ["and something of the client's own before", {
      "x-forwarded-for": "6.6.6.6, 198.51.100.1, 10.0.0.2",
      "x-forwarded-host": "evil.example, a.example, b.internal",
      "x-forwarded-proto": "http, https, http"
    }, { host: "a.example", secure: true }],
    ["replaced by each proxy", {
      "x-forwarded-for": "198.51.100.1, 10.0.0.2",
      "x-forwarded-host": "a.example",
      "x-forwarded-proto": "https"
    }, { host: "a.example", secure: true }],
    ["replaced, where the client sent an address", {
      "x-forwarded-for": "6.6.6.6, 198.51.100.1",
      "x-forwarded-proto": "https"
    }, { secure: true }],
    ["for another scheme", { "x-forwarded-for": "198.51.100.1", "x-forwarded-proto": "WSS" }, { secure: true }],
    ["for plain HTTP", { "x-forwarded-for": "198.51.100.1", "x-forwarded-proto": "http" }, { secure: false }]
  ])("X-Forwarded: %s", (_, headers, expected) => {
    assert.deepStrictEqual(resolve(x, headers), { ...direct, address: "198.51.100.1", ...expected })
  })

  it("of a proxy that names no address, too", () => {
    assert.deepStrictEqual(resolve(x, { "x-forwarded-host": "a.example", "x-forwarded-proto": "https" }), {
      address: undefined,
      host: "a.example",
      secure: true
    })
  })

  it("over TLS to the proxy, plain HTTP is not secure", () => {
    const headers = { "x-forwarded-for": "198.51.100.1", "x-forwarded-proto": "http" }
    assert.deepInclude(resolve(x, headers, { ...direct, secure: true }), { secure: false })
  })

  it("Forwarded keeps them together (RFC 7239, section 4)", () => {
    const forwarded =
      "for=6.6.6.6;host=evil.example;proto=http, FOR=198.51.100.1; Host=\"a.example:8443\" ;Proto=https;" +
      "by=_hidden, for=10.0.0.2;host=b.internal"
    assert.deepStrictEqual(resolve(rfc7239, { forwarded }), {
      address: "198.51.100.1",
      host: "a.example:8443",
      secure: true
    })
  })
})

describe("what a trusted proxy sends has to be readable", () => {
  it.each([
    "for=\"198.51.100.1",
    "for=\"198.51.100.1\"x",
    "for=198.51.100.1;for=198.51.100.2",
    "for",
    "for=",
    "=198.51.100.1",
    "for =198.51.100.1",
    "for=198.51.100.1 proto=https",
    "for=198.51.100.1;host=\"a/b\"",
    "for=198.51.100.1;host=\"\"",
    "\"for\"=198.51.100.1",
    "for=\"\\"
  ])("Forwarded: %s", (forwarded) => {
    assert.strictEqual(resolve(rfc7239, { forwarded }), "Malformed")
    assert.deepStrictEqual(resolve({ ...rfc7239, addresses: [] }, { forwarded }), direct)
  })

  it("X-Forwarded-Host is an authority", () => {
    const headers = { "x-forwarded-for": "198.51.100.1", "x-forwarded-host": "a/b" }
    assert.strictEqual(resolve(x, headers), "Malformed")
  })

  it("a quoted string may escape what it likes", () => {
    const forwarded = "for=\"19\\8.51.100.1\";ext=\"a,b;c=\\\"d\\\"\""
    assert.deepStrictEqual(resolve(rfc7239, { forwarded }), { ...direct, address: "198.51.100.1" })
  })

  const pieces = ["for", "host", "=", ";", ",", "\"", "\\", " ", "10.0.0.1", "1", ":", "[", "]", "_a"] as const
  const text = Arbitrary.array(Arbitrary.schema(Schema.Literals(pieces)), { maxLength: 20 })

  it.prop("any other text is read or malformed, never thrown at", [text], ([pieces]) => {
    const text = pieces.join("")
    for (const proxies of [x, rfc7239]) {
      resolve(proxies, { forwarded: text, "x-forwarded-for": text, "x-forwarded-host": text })
    }
  })
})

describe("trusted addresses", () => {
  it.each(["10.0.0.1/8", "10.0.0.0/33", "localhost", "", "10.0.0", "*"])("that are none are told: %s", (address) => {
    assert.deepStrictEqual(makeResolver({ addresses: ["10.0.0.0/8", address] }), { _tag: "InvalidAddress", address })
  })
})
