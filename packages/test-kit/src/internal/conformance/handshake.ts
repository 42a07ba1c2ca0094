/**
 * RFC 6455, sections 4 and 10: requests that are right, wrong, hostile, slow, and those whose client leaves.
 */
import {
  accepts,
  type Changes,
  type HandshakeRule,
  refuses,
  request,
  sampleAccept,
  type Sent
} from "../../HandshakeRule.ts"

const asks = (changes?: Changes): Sent => ({ _tag: "Request", request: request(changes) })

const upgraded = {
  "upgrade": "websocket",
  "connection": "Upgrade",
  "sec-websocket-accept": sampleAccept
}

const accepted = (title: string, headers: Changes["headers"], section = "4.2.1"): HandshakeRule => ({
  section,
  title: `accepted: ${title}`,
  sent: asks({ headers }),
  outcome: accepts(upgraded)
})

const refused = (
  title: string,
  statuses: ReadonlyArray<number>,
  changes: Changes,
  section = "4.2.1"
): HandshakeRule => ({
  section,
  title: `refused: ${title}`,
  sent: asks(changes),
  outcome: refuses(statuses)
})

const key = request().headers.find(([name]) => name === "Sec-WebSocket-Key")![1]

// "An appropriate HTTP error code (such as 400 Bad Request)": 400 is right for all of them. The first is the best.
export const opening: ReadonlyArray<HandshakeRule> = [
  accepted("a request that keeps the rules", {}),
  accepted("names in any case", { "Upgrade": undefined, "uPGRADE": "WebSocket", "Connection": "uPGRADE" }),
  accepted("websocket among what the client can speak", { Upgrade: "h2c, websocket" }),
  accepted("Upgrade among the options of the connection", { Connection: ["keep-alive", "Upgrade"] }),
  accepted("an offer of subprotocols that the server does not know", { "Sec-WebSocket-Protocol": ["a.example", "b"] }),
  accepted(
    "an offer of extensions that the server does not know",
    { "Sec-WebSocket-Extensions": ["x-a; b=1", "c"] },
    "9.1"
  ),
  accepted("an empty body", { "Content-Length": "0" }),
  refused("another method than GET", [405, 400, 404, 501], { method: "POST" }),
  refused("HEAD", [405, 400, 404, 501], { method: "HEAD" }),
  refused("HTTP/1.0", [426, 400, 505], { version: "1.0" }),
  refused("no Host", [400], { headers: { Host: undefined } }),
  refused("an empty Host", [400], { headers: { Host: "" } }),
  refused("two Hosts", [400], { headers: { Host: ["{host}", "{host}"] } }),
  refused("a Host that is none", [400], { headers: { Host: "a/b" } }),
  {
    section: "4.2.1",
    title: "plain HTTP is told of the upgrade, if at all",
    sent: { _tag: "Request", request: { ...request(), headers: [["Host", "{host}"]] } },
    outcome: refuses([426, 400, 404])
  },
  refused("no Upgrade", [426, 400, 404], { headers: { Upgrade: undefined } }),
  refused("an upgrade to something else", [426, 400, 404], { headers: { Upgrade: "h2c" } }),
  refused("an upgrade to a version of it", [426, 400, 404], { headers: { Upgrade: "websocket/13" } }),
  refused("Connection without Upgrade", [426, 400, 404], { headers: { Connection: "keep-alive" } }),
  refused("no key", [400], { headers: { "Sec-WebSocket-Key": undefined } }),
  ...["", "c2hvcnQ=", "dGhlIHNhbXBsZSBub25j", "dGhlIHNhbXBsZSBub25jZWU=", `!${key.slice(1)}`].map((wrong) =>
    refused(`the key ${JSON.stringify(wrong)}, not 16 bytes in base64`, [400], {
      headers: { "Sec-WebSocket-Key": wrong }
    })
  ),
  refused("two keys", [400], { headers: { "Sec-WebSocket-Key": [key, key] } }, "11.3.1"),
  refused("no version", [426, 400], { headers: { "Sec-WebSocket-Version": undefined } }, "4.4"),
  ...["0", "14", "255", "13a", "013", "13, 14"].map((version): HandshakeRule => ({
    section: "4.4",
    title: `refused: version ${version}, and 13 is told`,
    sent: asks({ headers: { "Sec-WebSocket-Version": version } }),
    outcome: refuses([426, 400], { "sec-websocket-version": "13" })
  })),
  refused("two versions", [426, 400], { headers: { "Sec-WebSocket-Version": ["13", "13"] } }, "11.3.5"),
  refused("a subprotocol twice", [400], { headers: { "Sec-WebSocket-Protocol": ["chat", "chat"] } }, "4.1"),
  refused("a subprotocol that is not a token", [400], { headers: { "Sec-WebSocket-Protocol": "a b" } }, "4.1"),
  refused("a header for subprotocols without any", [400], { headers: { "Sec-WebSocket-Protocol": "" } }, "4.1"),
  refused("extensions that are malformed", [400], { headers: { "Sec-WebSocket-Extensions": "a;;b" } }, "9.1"),
  refused("a header for extensions without any", [400], { headers: { "Sec-WebSocket-Extensions": "," } }, "9.1")
]

export const origins: ReadonlyArray<HandshakeRule> = [
  accepted("no origin: not a browser", { Origin: undefined }, "10.2"),
  accepted("the same origin", { Origin: "{origin}" }, "10.2"),
  ...["http://evil.example", "{origin}.evil.example", "{origin} http://evil.example", "null", "nonsense", ""]
    .map((origin) => refused(`the origin ${JSON.stringify(origin)}`, [403], { headers: { Origin: origin } }, "10.2")),
  refused("two origins", [403], { headers: { Origin: ["{origin}", "{origin}"] } }, "10.2")
]

const maxHeaders = 128

const many = (count: number): Changes => ({
  headers: Object.fromEntries(Array.from({ length: count - request().headers.length }, (_, i) => [`X-${i}`, "y"]))
})

const raw = (lines: string): string =>
  `GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ${key}\r\n` +
  `Sec-WebSocket-Version: 13\r\n${lines}\r\n`

const malformed = (title: string, text: string): HandshakeRule => ({
  section: "4.2.1",
  title: `refused: ${title}`,
  sent: { _tag: "Bytes", text, ending: "Wait" },
  outcome: refuses([400, 501, 505])
})

// What comes before the headers, as it should be.
const target = (text: string): string => raw("").replace("GET / ", `GET ${text} `)

const unreadable = (title: string, text: string): HandshakeRule => ({
  section: "10.4",
  title: `not taken: ${title}`,
  sent: { _tag: "Bytes", text, ending: "Wait" },
  outcome: { _tag: "Dropped" }
})

export const heads: ReadonlyArray<HandshakeRule> = [
  {
    section: "10.4",
    title: "accepted: as many headers as the limit",
    limits: { maxHeaders },
    sent: asks(many(maxHeaders)),
    outcome: accepts(upgraded)
  },
  ...[maxHeaders + 1, 500].map((count): HandshakeRule => ({
    section: "10.4",
    title: `refused: ${count} headers`,
    limits: { maxHeaders },
    sent: asks(many(count)),
    outcome: refuses([431, 400])
  })),
  accepted(
    "headers with the names of JavaScript's own",
    { ["__proto__"]: ["a", "b"], constructor: "c", toString: "d" },
    "10.4"
  ),
  unreadable("a megabyte in one header", raw(`X-Long: ${"x".repeat(1024 * 1024)}\r\n`)),
  unreadable("a megabyte of request target", raw("").replace("/", `/${"x".repeat(1024 * 1024)}`)),
  unreadable("what is not HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
  malformed("a method that is none", raw("").replace("GET", "SPEAK")),
  malformed("a version of HTTP that there is not", raw("").replace("HTTP/1.1", "HTTP/3.7")),
  malformed("a target that is no URL", target("http://[::1/")),
  malformed("a target that is no path", target("echo")),
  malformed("the target of OPTIONS", target("*")),
  malformed("a target with a space", target("/a b")),
  malformed("a fragment in the target", target("/a#b")),
  malformed("a zero byte in a header", raw("X-A: a\0b\r\n")),
  malformed("a lone carriage return in a header", raw("X-A: a\rb\r\n")),
  malformed("a folded header", raw("X-A: a\r\n b\r\n")),
  malformed("a header name with a space in it", raw("X A: a\r\n")),
  malformed("a space before the colon of a header", raw("X-A : a\r\n")),
  malformed("a header without a name", raw(": a\r\n")),
  malformed("a body", raw("Content-Length: 5\r\n")),
  malformed("a body in chunks", raw("Transfer-Encoding: chunked\r\n")),
  malformed("a body of two lengths", raw("Content-Length: 5\r\nContent-Length: 6\r\n")),
  malformed("a body of no length", raw("Content-Length: five\r\n")),
  {
    section: "4.2.1",
    title: "accepted: white space around values",
    sent: {
      _tag: "Bytes",
      text: raw("").replace(`Sec-WebSocket-Key: ${key}`, `Sec-WebSocket-Key:  ${key}\t`),
      ending: "Wait"
    },
    outcome: accepts(upgraded)
  },
  {
    section: "4.2.1",
    title: "accepted: a header beyond ASCII",
    sent: { _tag: "Bytes", text: raw("X-A: \u00e9\r\n"), ending: "Wait" },
    outcome: accepts(upgraded)
  }
]

const good = raw("")

export const leaving: ReadonlyArray<HandshakeRule> = (["End", "Reset"] as const).flatMap((ending) =>
  Array.from({ length: good.length + 1 }, (_, count) => ({
    section: "7.1.7",
    title: `${ending === "End" ? "the end" : "a reset"} after ${count} bytes of the request harms nobody`,
    sent: { _tag: "Bytes", text: good.slice(0, count), ending },
    outcome: { _tag: "Over" }
  }))
)

export const slow: ReadonlyArray<HandshakeRule> = [0, 1, "GET / HTTP/1.1\r\nHo".length, good.length - 1].map((
  count
) => ({
  section: "10.4",
  title: `who stops after ${count} bytes of the request is dropped`,
  limits: { handshakeMillis: 500 },
  sent: { _tag: "Bytes", text: good.slice(0, count), ending: "Wait" },
  outcome: { _tag: "Dropped" }
}))
