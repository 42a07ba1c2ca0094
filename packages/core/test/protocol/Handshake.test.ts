import type { Extension } from "@effect-ws/core/protocol/ExtensionHeader"
import {
  acceptFor,
  checkRequest,
  checkResponse,
  checkSubprotocols,
  encodeKey,
  type Headers,
  headersOf,
  joinHeaders,
  requestHeaders,
  responseHeaders,
  selectSubprotocol,
  type Sha1
} from "@effect-ws/core/protocol/Handshake"
import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"

const sha1: Sha1 = (text) => createHash("sha1").update(text).digest("base64")

// §1.2 and §1.3
const key = "dGhlIHNhbXBsZSBub25jZQ=="
const accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

const deflate: Extension = { name: "permessage-deflate", parameters: [["client_max_window_bits", undefined]] }

const goodRequest: Headers = {
  host: "server.example.com",
  upgrade: "websocket",
  connection: "Upgrade",
  "sec-websocket-key": key,
  "sec-websocket-version": "13"
}

const goodResponse: Headers = {
  upgrade: "websocket",
  connection: "Upgrade",
  "sec-websocket-accept": accept
}

const change = (headers: Headers, changes: Readonly<Record<string, string | undefined>>): Headers =>
  Object.fromEntries(
    Object.entries({ ...headers, ...changes }).filter((entry): entry is [string, string] => entry[1] !== undefined)
  )

const get = (changes: Readonly<Record<string, string | undefined>> = {}, httpVersion = "1.1") =>
  checkRequest({ method: "GET", httpVersion, headers: change(goodRequest, changes) })

const refusal = (result: ReturnType<typeof checkRequest>) => {
  assert(result._tag === "HandshakeFailure")
  return result
}

const acceptance = (result: ReturnType<typeof checkRequest>) => {
  assert(result._tag === "Accepted")
  return result
}

const respond = (
  changes: Readonly<Record<string, string | undefined>>,
  offer?: { readonly subprotocols?: ReadonlyArray<string>; readonly extensions?: ReadonlyArray<string> }
) =>
  checkResponse({ status: 101, headers: change(goodResponse, changes) }, {
    key,
    sha1,
    subprotocols: offer?.subprotocols ?? [],
    extensions: offer?.extensions ?? []
  })

describe("Handshake", () => {
  describe("key", () => {
    it("§1.3: the RFC's nonce gives the RFC's key and accept value", () => {
      assert.strictEqual(encodeKey(new TextEncoder().encode("the sample nonce")), key)
      assert.strictEqual(acceptFor(key, sha1), accept)
    })

    it.prop("§4.1: every key that is encoded is accepted by a server", {
      bytes: Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 }))).check(
        Schema.isBetweenLength(16, 16)
      )
    }, ({ bytes }) => {
      const encoded = encodeKey(Uint8Array.from(bytes))
      assert.strictEqual(encoded, Buffer.from(bytes).toString("base64"))
      assert.strictEqual(acceptance(get({ "sec-websocket-key": encoded })).key, encoded)
    })
  })

  describe("requestHeaders", () => {
    it("§4.1: the least request has what the RFC demands and nothing else", () => {
      assert.deepStrictEqual(requestHeaders({ key, host: "server.example.com", subprotocols: [] }), goodRequest)
    })

    it("§4.1: subprotocols and extensions are offered in order of preference", () => {
      const headers = requestHeaders({
        key,
        host: "server.example.com",
        subprotocols: ["superchat", "chat"],
        extensions: [deflate, { name: "permessage-deflate", parameters: [] }],
        headers: { Origin: "http://example.com", authorization: "Bearer x" }
      })
      assert.deepStrictEqual(headers, {
        ...goodRequest,
        "sec-websocket-protocol": "superchat, chat",
        "sec-websocket-extensions": "permessage-deflate; client_max_window_bits, permessage-deflate",
        origin: "http://example.com",
        authorization: "Bearer x"
      })
    })

    it("§9.1: an offer without extensions has no header for them", () => {
      assert.notProperty(
        requestHeaders({ key, host: "h", subprotocols: [], extensions: [] }),
        "sec-websocket-extensions"
      )
    })

    it("§4.1: the caller's headers replace none that the handshake owns, in any case", () => {
      const headers = requestHeaders({
        key,
        host: "server.example.com",
        subprotocols: [],
        headers: {
          Host: "evil.example",
          UPGRADE: "h2c",
          Connection: "close",
          "Sec-WebSocket-Key": "x",
          "sec-websocket-version": "8",
          "Sec-WebSocket-Protocol": "x",
          "Sec-WebSocket-Extensions": "x",
          "Sec-WebSocket-Accept": "x",
          "Content-Length": "5",
          "Transfer-Encoding": "chunked"
        }
      })
      assert.deepStrictEqual(headers, goodRequest)
    })
  })

  describe("checkSubprotocols", () => {
    it("§4.1: distinct tokens may be offered", () => {
      assert.isUndefined(checkSubprotocols([]))
      assert.isUndefined(checkSubprotocols(["chat", "Chat", "v1.ocpp"]))
    })

    it.each([[["chat", "chat"]], [[""]], [["a b"]], [["a,b"]], [["a\r\nx: y"]]])(
      "§4.1: %j may not be offered",
      (subprotocols) => {
        assert.strictEqual(checkSubprotocols(subprotocols)?._tag, "HandshakeFailure")
      }
    )
  })

  describe("checkRequest", () => {
    it("§1.2: the RFC's example is accepted", () => {
      assert.deepStrictEqual(
        get({ origin: "http://example.com", "sec-websocket-protocol": "chat, superchat" }),
        { _tag: "Accepted", key, subprotocols: ["chat", "superchat"], extensions: [] }
      )
    })

    it("§9.1: the offered extensions are read in order", () => {
      const result = acceptance(get({ "sec-websocket-extensions": "permessage-deflate; client_max_window_bits, x" }))
      assert.deepStrictEqual(result.extensions, [deflate, { name: "x", parameters: [] }])
    })

    it.each([
      { upgrade: "WebSocket" },
      { upgrade: "h2c, WEBSOCKET" },
      { connection: "upgrade" },
      { connection: "keep-alive, Upgrade" },
      { connection: "keep-alive,UPGRADE ,x" },
      { "sec-websocket-key": ` ${key}\t` },
      // The bits beyond the sixteenth byte are not zero; it is the base64 of 16 bytes all the same.
      { "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAB==" },
      { host: "[::1]:8080" }
    ])("§4.2.1: accepts %j", (changes) => {
      acceptance(get(changes))
    })

    it.each(["POST", "HEAD", "OPTIONS", "CONNECT", "get", ""])(
      "§4.2.1: method %j is answered 405, Allow: GET",
      (method) => {
        const result = refusal(checkRequest({ method, httpVersion: "1.1", headers: goodRequest }))
        assert.strictEqual(result.status, 405)
        assert.deepStrictEqual(result.headers, { allow: "GET" })
      }
    )

    it.each(["1.0", "0.9", "1", "", "x"])(
      "§4.2.1: HTTP %j may not upgrade (RFC 7230 §6.7) and is answered 426",
      (httpVersion) => {
        const result = refusal(get({}, httpVersion))
        assert.strictEqual(result.status, 426)
        assert.deepStrictEqual(result.headers, { upgrade: "websocket", connection: "Upgrade" })
      }
    )

    it("§4.2.1: HTTP/1.1 or higher", () => {
      acceptance(get({}, "1.1"))
      acceptance(get({}, "1.2"))
      acceptance(get({}, "2.0"))
    })

    it.each([undefined, "", "a, b", "user@host", "host/path", "a b"])("§4.2.1: Host %j is answered 400", (host) => {
      assert.strictEqual(refusal(get({ host })).status, 400)
    })

    it("RFC 7230 §5.4: a second Host, which the joined headers hide, is answered 400", () => {
      const rawHeaders = ["Host", "server.example.com", "X", "Host", "hOST", "evil.example"]
      const request = { method: "GET", httpVersion: "1.1", headers: goodRequest }
      assert.strictEqual(refusal(checkRequest({ ...request, rawHeaders })).detail, "Host is repeated")
      acceptance(checkRequest({ ...request, rawHeaders: rawHeaders.slice(0, 4) }))
    })

    it.each([undefined, "", "h2c", "websockets", "web socket", "websocket/13", "\"websocket\"", "websoc\u212aet"])(
      "§4.2.1: Upgrade %j is answered 426 with the protocol spoken",
      (upgrade) => {
        const result = refusal(get({ upgrade }))
        assert.strictEqual(result.status, 426)
        assert.deepStrictEqual(result.headers, { upgrade: "websocket", connection: "Upgrade" })
      }
    )

    it.each([undefined, "", "keep-alive", "close", "upgraded", "x-upgrade"])(
      "§4.2.1: Connection %j is answered 400",
      (connection) => {
        assert.strictEqual(refusal(get({ connection })).status, 400)
      }
    )

    it.each([undefined, "", "8", "12", "14", "013", "13.0", "13, 13", "13, 8", "0x0d"])(
      "§4.2.2: a version other than 13 is answered 426 with the version spoken: %j",
      (version) => {
        const result = refusal(get({ "sec-websocket-version": version }))
        assert.strictEqual(result.status, 426)
        assert.deepStrictEqual(result.headers, {
          upgrade: "websocket",
          connection: "Upgrade",
          "sec-websocket-version": "13"
        })
      }
    )

    it("§4.4: a client of an old draft learns the version, though it has no key either", () => {
      assert.strictEqual(
        refusal(get({ "sec-websocket-version": undefined, "sec-websocket-key": undefined })).status,
        426
      )
    })

    it.each([
      undefined,
      "",
      "x",
      "dGhlIHNhbXBsZSBub25jZQ",
      "dGhlIHNhbXBsZSBub25jZQ=",
      "dGhlIHNhbXBsZSBub25jZTE=",
      "dGhlIHNhbXBsZSBub25j",
      "dGhlIHNhbXBsZSBub25jZ-==",
      "dGhlIHNhbXBsZSBub25j\nZQ==",
      "dGhlIHNhbXBsZSBub25jZ===",
      "========================",
      `${key}${key}`,
      `${key}, ${key}`
    ])("§4.2.1: a key that is not the base64 of 16 bytes is answered 400: %j", (key) => {
      assert.strictEqual(refusal(get({ "sec-websocket-key": key })).status, 400)
    })

    it.each(["", ",", "chat, chat", "a b", "soap/1.1", "\"chat\"", "ch\u00e4t"])(
      "§4.1: subprotocols %j are answered 400",
      (subprotocols) => {
        assert.strictEqual(refusal(get({ "sec-websocket-protocol": subprotocols })).status, 400)
      }
    )

    it.each(["", ";", "a;", "a;b=", "a;b=\"1 2\"", "a b"])("§9.1: extensions %j are answered 400", (extensions) => {
      const result = refusal(get({ "sec-websocket-extensions": extensions }))
      assert.strictEqual(result.status, 400)
      assert.strictEqual(result.section, "9.1")
    })

    it.each([{ "content-length": "1" }, { "content-length": "" }, { "transfer-encoding": "chunked" }])(
      "RFC 7230 §3.3: a body is answered 400, as it would be taken for frames: %j",
      (headers) => {
        assert.strictEqual(refusal(get(headers)).status, 400)
        acceptance(get({ "content-length": "0" }))
      }
    )

    it("RFC 6585 §5: more headers than allowed are answered 431, before anything else is judged", () => {
      const request = { method: "GET", httpVersion: "1.1", headers: goodRequest }
      acceptance(checkRequest(request, { maxHeaders: 5 }))
      assert.strictEqual(refusal(checkRequest({ ...request, method: "POST" }, { maxHeaders: 4 })).status, 431)
      const rawHeaders = ["Host", "h", "X", "1", "X", "2", "X", "3", "X", "4", "X", "5"]
      assert.strictEqual(refusal(checkRequest({ ...request, rawHeaders }, { maxHeaders: 5 })).status, 431)
      acceptance(checkRequest({ ...request, rawHeaders }, { maxHeaders: 6 }))
    })

    it("plain HTTP to a WebSocket port is answered 426", () => {
      const result = refusal(checkRequest({ method: "GET", httpVersion: "1.1", headers: { host: "h", accept: "*/*" } }))
      assert.strictEqual(result.status, 426)
      assert.strictEqual(result.headers.upgrade, "websocket")
    })

    it.prop("any request is accepted or refused, never thrown at", {
      method: Schema.Literals(["GET", "POST"]),
      httpVersion: Schema.Union([Schema.Literals(["1.1", "1.0"]), Schema.String]),
      headers: Schema.Record(Schema.String, Schema.String),
      name: Schema.Literals([
        "host",
        "upgrade",
        "connection",
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-protocol",
        "sec-websocket-extensions"
      ]),
      value: Schema.String
    }, ({ headers, httpVersion, method, name, value }) => {
      for (const candidate of [headers, { ...headers, ...goodRequest, [name]: value }]) {
        const result = checkRequest({ method, httpVersion, headers: candidate, rawHeaders: Object.keys(candidate) })
        if (result._tag === "HandshakeFailure") assert.isTrue(result.status >= 400 && result.status < 500)
      }
    })
  })

  describe("responseHeaders", () => {
    it("§4.2.2: the least response has what the RFC demands and nothing else", () => {
      assert.deepStrictEqual(responseHeaders({ key, sha1 }), goodResponse)
    })

    it("§4.2.2: names what was chosen; the caller's headers replace none that the handshake owns", () => {
      assert.deepStrictEqual(
        responseHeaders({
          key,
          sha1,
          subprotocol: "chat",
          extensions: [deflate],
          headers: { "Set-Cookie": "a=1", "Sec-WebSocket-Accept": "x", Connection: "close", "Content-Length": "0" }
        }),
        {
          ...goodResponse,
          "sec-websocket-protocol": "chat",
          "sec-websocket-extensions": "permessage-deflate; client_max_window_bits",
          "set-cookie": "a=1"
        }
      )
    })
  })

  describe("checkResponse", () => {
    it("§1.2: the RFC's example is accepted", () => {
      assert.deepStrictEqual(respond({ "sec-websocket-protocol": "chat" }, { subprotocols: ["superchat", "chat"] }), {
        _tag: "Accepted",
        subprotocol: "chat",
        extensions: []
      })
    })

    it.each([
      { upgrade: "WebSocket" },
      { connection: "keep-alive, upgrade" },
      { "sec-websocket-accept": `\t${accept} ` }
    ])("§4.1: accepts %j", (changes) => {
      assert.strictEqual(respond(changes)._tag, "Accepted")
    })

    it("§4.2.2: a server may choose none of the subprotocols and extensions", () => {
      assert.deepStrictEqual(respond({}, { subprotocols: ["chat"], extensions: ["permessage-deflate"] }), {
        _tag: "Accepted",
        subprotocol: undefined,
        extensions: []
      })
    })

    it("§4.1: extensions that were offered are read with their parameters", () => {
      assert.deepStrictEqual(
        respond({ "sec-websocket-extensions": "permessage-deflate; server_max_window_bits=10" }, {
          extensions: ["permessage-deflate"]
        }),
        {
          _tag: "Accepted",
          subprotocol: undefined,
          extensions: [{ name: "permessage-deflate", parameters: [["server_max_window_bits", "10"]] }]
        }
      )
    })

    it.each([100, 200, 204, 301, 401, 403, 426, 500])("§4.1: status %d is not 101", (status) => {
      assert.deepStrictEqual(
        checkResponse({ status, headers: goodResponse }, { key, sha1, subprotocols: [], extensions: [] }),
        { _tag: "HandshakeFailure", section: "4.1", detail: `the status is ${status}, not 101` }
      )
    })

    const cases: ReadonlyArray<
      readonly [Readonly<Record<string, string | undefined>>, section: string, detail: string]
    > = [
      [{ upgrade: undefined }, "4.1", "Upgrade is missing"],
      [{ upgrade: "" }, "4.1", "Upgrade is not websocket"],
      [{ upgrade: "h2c" }, "4.1", "Upgrade is not websocket"],
      [{ upgrade: "websocket, h2c" }, "4.1", "Upgrade is not websocket"],
      [{ connection: undefined }, "4.1", "Connection is missing"],
      [{ connection: "close" }, "4.1", "Connection does not name Upgrade"],
      [{ connection: "upgraded" }, "4.1", "Connection does not name Upgrade"],
      [{ "sec-websocket-accept": undefined }, "4.1", "Sec-WebSocket-Accept is missing"],
      [{ "sec-websocket-accept": "" }, "4.1", "Sec-WebSocket-Accept does not match the key"],
      [{ "sec-websocket-accept": key }, "4.1", "Sec-WebSocket-Accept does not match the key"],
      [{ "sec-websocket-accept": accept.toLowerCase() }, "4.1", "Sec-WebSocket-Accept does not match the key"],
      [{ "sec-websocket-accept": `${accept}, ${accept}` }, "4.1", "Sec-WebSocket-Accept does not match the key"],
      [{ "sec-websocket-extensions": "" }, "9.1", "Sec-WebSocket-Extensions is malformed"],
      [{ "sec-websocket-extensions": "a;" }, "9.1", "Sec-WebSocket-Extensions is malformed"],
      [
        { "sec-websocket-extensions": "a, b" },
        "4.1",
        "Sec-WebSocket-Extensions names an extension that was not offered"
      ],
      [{ "sec-websocket-protocol": "" }, "4.3", "Sec-WebSocket-Protocol is not one token"],
      [{ "sec-websocket-protocol": "chat, chat" }, "4.3", "Sec-WebSocket-Protocol is not one token"],
      [
        { "sec-websocket-protocol": "other" },
        "4.1",
        "Sec-WebSocket-Protocol names a subprotocol that was not offered"
      ],
      [
        { "sec-websocket-protocol": "CHAT" },
        "4.1",
        "Sec-WebSocket-Protocol names a subprotocol that was not offered"
      ]
    ]

    it.each(cases)("§4.1: %j fails (section %s): %s", (changes, section, detail) => {
      assert.deepStrictEqual(respond(changes, { subprotocols: ["chat"], extensions: ["a"] }), {
        _tag: "HandshakeFailure",
        section,
        detail
      })
    })

    it("§4.1: a response that chooses from an empty offer fails", () => {
      assert.strictEqual(respond({ "sec-websocket-protocol": "chat" })._tag, "HandshakeFailure")
      assert.strictEqual(respond({ "sec-websocket-extensions": "permessage-deflate" })._tag, "HandshakeFailure")
    })

    it.prop("any response is accepted or fails, never thrown at", {
      status: Schema.Union([Schema.Literals([101]), Schema.Int]),
      headers: Schema.Record(Schema.String, Schema.String),
      name: Schema.Literals([
        "upgrade",
        "connection",
        "sec-websocket-accept",
        "sec-websocket-protocol",
        "sec-websocket-extensions"
      ]),
      value: Schema.String
    }, ({ headers, name, status, value }) => {
      const expected = { key, sha1, subprotocols: ["chat"], extensions: ["permessage-deflate"] }
      checkResponse({ status, headers }, expected)
      checkResponse({ status: 101, headers: { ...headers, ...goodResponse, [name]: value } }, expected)
    })
  })

  describe("headersOf", () => {
    const Line = Schema.Tuple([
      Schema.Literals(["Host", "HOST", "User-Agent", "Cookie", "Upgrade", "__proto__", "constructor"]),
      Schema.Literals(["", "a", "b", "websocket"])
    ])
    const Request = Schema.Array(Line)

    it.prop(
      "gives each request its own headers, by lower-case names, and joins those that are repeated (RFC 7230, section 3.2.2)",
      { requests: Schema.Array(Request) },
      ({ requests }) => {
        for (const lines of requests) {
          const names = new Set(lines.map(([name]) => name.toLowerCase()))
          const expected = [...names].map((name) => [
            name,
            lines.filter(([other]) => other.toLowerCase() === name).map(([, value]) => value).join(", ")
          ])
          assert.deepStrictEqual(Object.entries(headersOf(lines.flat())), expected)
        }
      }
    )
  })

  describe("selectSubprotocol", () => {
    it.each<[ReadonlyArray<string>, ReadonlyArray<string>, string | undefined]>([
      [["a", "b"], ["b", "a"], "a"],
      [["x", "b"], ["a", "b"], "b"],
      [["x"], ["a"], undefined],
      [["Chat"], ["chat"], undefined],
      [[], ["a"], undefined],
      [["a"], [], undefined]
    ])("§4.2.2: the server prefers %j, the client offers %j: %s", (preference, offered, expected) => {
      assert.strictEqual(selectSubprotocol(preference, offered), expected)
    })
  })

  it("§4: what each side builds, the other accepts", () => {
    const request = checkRequest({
      method: "GET",
      httpVersion: "1.1",
      headers: requestHeaders({
        key,
        host: "server.example.com",
        subprotocols: ["chat", "superchat"],
        extensions: [deflate]
      })
    })
    const { extensions, key: received, subprotocols } = acceptance(request)
    const subprotocol = selectSubprotocol(["superchat"], subprotocols)
    const response = checkResponse(
      { status: 101, headers: joinHeaders(responseHeaders({ key: received, sha1, subprotocol, extensions })) },
      { key, sha1, subprotocols: ["chat", "superchat"], extensions: ["permessage-deflate"] }
    )
    assert.deepStrictEqual(response, { _tag: "Accepted", subprotocol: "superchat", extensions: [deflate] })
  })
})
