import { isAuthority, parseUrl, unixUrl } from "@effect-ws/core/protocol/WebSocketUrl"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"

const urlOf = (input: string) => {
  const url = parseUrl(input)
  assert(url._tag === "WebSocketUrl")
  return url
}

describe("WebSocketUrl", () => {
  describe("parseUrl", () => {
    it("§3: a ws URL gives host, port and resource name", () => {
      assert.deepStrictEqual(parseUrl("ws://example.com:8080/chat/room?user=1&x=%20"), {
        _tag: "WebSocketUrl",
        secure: false,
        socketPath: undefined,
        host: "example.com",
        hostHeader: "example.com:8080",
        port: 8080,
        target: "/chat/room?user=1&x=%20",
        hasCredentials: false
      })
    })

    it.each([
      ["ws://example.com", false, 80, "example.com"],
      ["ws://example.com:80", false, 80, "example.com"],
      ["ws://example.com:443", false, 443, "example.com:443"],
      ["wss://example.com", true, 443, "example.com"],
      ["wss://example.com:443", true, 443, "example.com"],
      ["wss://example.com:80", true, 80, "example.com:80"],
      ["WSS://EXAMPLE.com:8443", true, 8443, "example.com:8443"]
    ])("§3: default ports are 80 and 443, and are left out of Host: %s", (input, secure, port, hostHeader) => {
      const url = urlOf(input)
      assert.strictEqual(url.secure, secure)
      assert.strictEqual(url.port, port)
      assert.strictEqual(url.hostHeader, hostHeader)
    })

    it.each([
      ["ws://[::1]/", "::1", "[::1]"],
      ["ws://[::1]:9000/", "::1", "[::1]:9000"],
      ["wss://[2001:DB8::1]:443/", "2001:db8::1", "[2001:db8::1]"],
      ["ws://127.0.0.1:9000/", "127.0.0.1", "127.0.0.1:9000"]
    ])(
      "§3: an IPv6 address is connected to without its brackets and named with them: %s",
      (input, host, hostHeader) => {
        const url = urlOf(input)
        assert.strictEqual(url.host, host)
        assert.strictEqual(url.hostHeader, hostHeader)
      }
    )

    it.each([
      ["ws://h", "/"],
      ["ws://h/", "/"],
      ["ws://h?", "/"],
      ["ws://h?a", "/?a"],
      ["ws://h/a b?c d", "/a%20b?c%20d"],
      ["ws://h/a%23b?c%23d", "/a%23b?c%23d"],
      ["ws://h//x/../y", "//y"]
    ])("§3: the resource name of %s is %s", (input, target) => {
      assert.strictEqual(urlOf(input).target, target)
    })

    it.each([
      "ws://h#",
      "ws://h/#",
      "ws://h/a?b#c",
      "wss://h/#/route"
    ])("§3: a fragment is an error, the empty one too: %s", (input) => {
      assert.deepStrictEqual(parseUrl(input), {
        _tag: "InvalidUrl",
        detail: "the URL has a fragment",
        section: "3"
      })
    })

    it.each([
      "http://example.com",
      "https://example.com",
      "file:///etc/passwd",
      "javascript:alert(1)",
      "wsx://example.com",
      "unix:/run/app.sock",
      "http+unix:/run/app.sock"
    ])("§3: a scheme that is not a WebSocket's is an error: %s", (input) => {
      assert.deepStrictEqual(parseUrl(input), {
        _tag: "InvalidUrl",
        detail: "the scheme is none of ws, wss, ws+unix and wss+unix",
        section: "3"
      })
    })

    it.each([
      "",
      "/chat",
      "example.com",
      "//example.com",
      "ws://",
      "ws://:80",
      "ws://h:65536",
      "ws://h:port",
      "ws://[::1",
      "ws://a b",
      "ws://{",
      "ws://`"
    ])("§3: an error, not an exception, for %j", (input) => {
      assert.strictEqual(parseUrl(input)._tag, "InvalidUrl")
    })

    it.each([
      ["ws://user:secret@h/", true],
      ["ws://user@h/", true],
      ["ws://:secret@h/", true],
      ["ws://h/user:secret@h", false]
    ])("§3: credentials are reported and used nowhere: %s", (input, hasCredentials) => {
      const url = urlOf(input)
      assert.strictEqual(url.hasCredentials, hasCredentials)
      assert.strictEqual(url.host, "h")
      assert.strictEqual(url.hostHeader, "h")
    })

    it("the detail of a failure does not repeat the URL", () => {
      const url = parseUrl("http://user:secret@example.com")
      assert.notInclude(JSON.stringify(url), "secret")
    })

    it.prop("any string gives a URL or a failure, never an exception", [Schema.String, Schema.String], ([a, b]) => {
      parseUrl(a)
      const url = parseUrl(`ws://${a}/${b}`)
      if (url._tag === "InvalidUrl") return
      assert.isTrue(url.target.startsWith("/"))
      assert.isTrue(isAuthority(url.hostHeader))
      assert.isTrue(Number.isInteger(url.port) && url.port >= 0 && url.port <= 65535)
    })
  })

  describe("parseUrl of a Unix socket", () => {
    it("gives the socket and the resource name; Host is localhost", () => {
      assert.deepStrictEqual(parseUrl("ws+unix:///run/app.sock:/chat/room?user=1&x=%20"), {
        _tag: "WebSocketUrl",
        secure: false,
        socketPath: "/run/app.sock",
        host: "localhost",
        hostHeader: "localhost",
        port: 80,
        target: "/chat/room?user=1&x=%20",
        hasCredentials: false
      })
    })

    it.each([
      ["ws+unix:/run/app.sock", "/run/app.sock", "/"],
      ["WS+UNIX:/run/App.sock", "/run/App.sock", "/"],
      ["ws+unix:/run/app.sock:", "/run/app.sock", "/"],
      ["ws+unix:/run/app.sock:/", "/run/app.sock", "/"],
      ["ws+unix:/run/app.sock?a", "/run/app.sock", "/?a"],
      ["ws+unix:/run/app.sock:?a", "/run/app.sock", "/?a"],
      ["ws+unix:/run/app.sock:/a:b?c:d?e", "/run/app.sock", "/a:b?c:d?e"],
      ["ws+unix:/run/app.sock:/a b?c d", "/run/app.sock", "/a%20b?c%20d"],
      ["ws+unix:/run/app.sock://a@b/c", "/run/app.sock", "//a@b/c"],
      ["ws+unix:app.sock:/a", "app.sock", "/a"],
      ["ws+unix:../app.sock:/a", "../app.sock", "/a"],
      ["ws+unix:/a%3Ab%3Fc%25d%20e:/f", "/a:b?c%d e", "/f"],
      ["ws+unix:/grüße:/f", "/grüße", "/f"],
      ["ws+unix:%00abstract:/f", "\0abstract", "/f"]
    ])("%s is the socket %j, asked for %s", (input, socketPath, target) => {
      const url = urlOf(input)
      assert.deepStrictEqual([url.socketPath, url.target], [socketPath, target])
    })

    it("dots in the resource name do not reach into the socket's path", () => {
      const { socketPath, target } = urlOf("ws+unix:/run/app.sock:/a/../../../other.sock")
      assert.deepStrictEqual([socketPath, target], ["/run/app.sock", "/other.sock"])
    })

    it("with wss+unix is secure", () => {
      const { secure, socketPath } = urlOf("wss+unix:/run/app.sock:/a")
      assert.deepStrictEqual([secure, socketPath], [true, "/run/app.sock"])
    })

    it.each([
      ["ws+unix:", "the path of the Unix socket is malformed"],
      ["ws+unix:?a", "the path of the Unix socket is malformed"],
      ["ws+unix:///", undefined],
      ["ws+unix:%ff:/a", "the path of the Unix socket is malformed"],
      ["ws+unix:/run/%:/a", "the path of the Unix socket is malformed"],
      ["ws+unix://run/app.sock:/a", "the URL of a Unix socket has a host"],
      ["ws+unix://user:secret@h/run/app.sock", "the URL of a Unix socket has a host"],
      ["ws+unix:/run/app.sock:a", "what follows the Unix socket is not a path"],
      ["ws+unix:/run/app.sock:8080", "what follows the Unix socket is not a path"],
      ["ws+unix:/run/app.sock:@h/a", "what follows the Unix socket is not a path"],
      ["ws+unix:/run/app.sock#", "the URL has a fragment"],
      ["ws+unix:/run/app.sock:/a#b", "the URL has a fragment"]
    ])("%s: %s", (input, detail) => {
      const url = parseUrl(input)
      assert.strictEqual(url._tag === "InvalidUrl" ? url.detail : undefined, detail)
    })

    const Path = Schema.NonEmptyArray(
      Schema.Literals(["/", ".", ":", "?", "#", "%", "@", "\\", " ", "a", "ü", "🌍", "\0"])
    )

    it.prop("any path in a URL is read back from it", [Path, Schema.Boolean], ([characters, isSecure]) => {
      const path = characters.join("")
      const { secure, socketPath, target } = urlOf(`${unixUrl(path, isSecure)}:/a?b`)
      assert.deepStrictEqual([socketPath, target, secure], [path, "/a?b", isSecure])
    })

    it.prop("any string gives a URL or a failure, never an exception", [Schema.String, Schema.String], ([a, b]) => {
      const url = parseUrl(`ws+unix:${a}:/${b}`)
      if (url._tag === "InvalidUrl") return
      assert.isNotEmpty(url.socketPath)
      assert.deepStrictEqual([url.host, url.hostHeader], ["localhost", "localhost"])
      assert.isTrue(url.target.startsWith("/"))
    })
  })

  describe("isAuthority", () => {
    it.each(["example.com", "example.com:80", "[::1]:8080", "127.0.0.1", "a_b.example", "xn--bcher-kva.example"])(
      "RFC 7230 §5.4: %s can be the value of Host",
      (host) => {
        assert.isTrue(isAuthority(host))
      }
    )

    it.each(["", " ", "a b", "a, b ", "a/b", "a?b", "a#b", "user@a", "a\\b", "a\u0000", "b\u00fccher", "a\r\nx: y"])(
      "RFC 7230 §5.4: %j cannot be the value of Host",
      (host) => {
        assert.isFalse(isAuthority(host))
      }
    )
  })
})
