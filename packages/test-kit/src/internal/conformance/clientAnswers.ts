/**
 * RFC 6455, sections 4.1 and 10: answers to a client that are right, wrong, hostile, in pieces, broken off, and those that do
 * not come.
 */
import {
  type Answer,
  type ClientHandshakeRule,
  type ClientOutcome,
  type Connecting,
  connects,
  headOf,
  switching
} from "../../ClientHandshakeRule.ts"
import { sampleAccept } from "../../HandshakeRule.ts"
import * as Wire from "../../Wire.ts"
import { subprotocols } from "./clientRequests.ts"

const answered = (
  title: string,
  answer: Answer,
  outcome: ClientOutcome,
  section = "4.1",
  connecting: Partial<Connecting> = {}
): ClientHandshakeRule => ({ section, title, connecting, _tag: "Response", answer, outcome })

type Changes = Parameters<typeof switching>[0]

const refused: ClientOutcome = { _tag: "Refused" }
const either: ClientOutcome = { _tag: "Either" }

const taken = (title: string, changes: Changes, connecting?: Partial<Connecting>, section?: string) =>
  answered(`taken: ${title}`, { _tag: "Switch", headers: switching(changes) }, connects(), section, connecting)

const notTaken = (title: string, changes: Changes, connecting?: Partial<Connecting>, section?: string) =>
  answered(`refused: ${title}`, { _tag: "Switch", headers: switching(changes) }, refused, section, connecting)

const bytes = (text: string): Answer => ({ _tag: "Bytes", text, ending: "Wait" })

const accept = (value: string | ReadonlyArray<string> | undefined): Changes => ({ "Sec-WebSocket-Accept": value })
const protocol = (value: string | ReadonlyArray<string>): Changes => ({ "Sec-WebSocket-Protocol": value })
const extensions = (value: string | ReadonlyArray<string>): Changes => ({ "Sec-WebSocket-Extensions": value })

const good = headOf(switching())

export const answers: ReadonlyArray<ClientHandshakeRule> = [
  taken("an answer that keeps the rules", {}),
  taken("names in any case", {
    "Upgrade": undefined,
    "uPGRADE": "WebSocket",
    "Connection": undefined,
    "cONNECTION": "uPGRADE",
    "Sec-WebSocket-Accept": undefined,
    "SEC-WEBSOCKET-ACCEPT": "{accept}"
  }),
  taken("Upgrade among the options of the connection", { Connection: "keep-alive, Upgrade" }),
  taken("options of the connection in two lines", { Connection: ["keep-alive", "Upgrade"] }),
  taken("other headers beside", { "Date": "Mon, 01 Jan 2024 00:00:00 GMT", "Set-Cookie": ["a=b", "c=d"], "X-A": "" }),
  taken(
    "headers with the names of JavaScript's own",
    {
      ["__proto__"]: ["a", "b"],
      constructor: "c",
      toString: "d"
    },
    {},
    "10.4"
  ),
  taken("the subprotocol that the client likes best", protocol("v2.chat"), { subprotocols }),
  taken("another subprotocol that it has offered", protocol("v1.chat"), { subprotocols }),
  answered(
    "taken or refused: none of the subprotocols",
    { _tag: "Switch", headers: switching() },
    either,
    "4.2.2",
    { subprotocols }
  ),
  answered("taken: white space around values", bytes(good.replace(": {accept}", ":  \t{accept} ")), connects()),
  answered("taken: no white space at all", bytes(good.replaceAll(": ", ":")), connects()),
  answered("taken: another reason phrase", bytes(headOf(switching(), "HTTP/1.1 101 Fine by me")), connects()),
  answered("taken: no reason phrase", bytes(headOf(switching(), "HTTP/1.1 101 ")), connects()),
  answered("taken: a header beyond ASCII", bytes(headOf(switching({ "X-A": "\u00e9" }))), connects()),
  answered(
    "taken: after an informational response (RFC 7231, section 6.2)",
    bytes(`HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${good}`),
    connects()
  ),

  notTaken("no accept", accept(undefined)),
  notTaken("an empty accept", accept("")),
  notTaken("the accept of another key", accept(sampleAccept)),
  notTaken("the key as accept", accept("{key}")),
  notTaken("an accept with something behind it", accept("{accept}A")),
  notTaken("an accept with white space in it", accept("{accept} ="), {}),
  notTaken("two accepts in one value", accept("{accept}, {accept}")),
  notTaken("two accepts, the same", accept(["{accept}", "{accept}"]), {}, "11.3.3"),
  notTaken("two accepts, the wrong one last", accept(["{accept}", sampleAccept]), {}, "11.3.3"),
  notTaken("two accepts, the wrong one first", accept([sampleAccept, "{accept}"]), {}, "11.3.3"),
  notTaken("no Upgrade", { Upgrade: undefined }),
  ...["", "h2c", "websocket/13", "websockets", "websocket, h2c"].map((value) =>
    notTaken(`Upgrade: ${value}`, { Upgrade: value })
  ),
  notTaken("no Connection", { Connection: undefined }),
  ...["", "keep-alive", "close", "Upgrades", "Upgrade-Insecure"].map((value) =>
    notTaken(`Connection: ${value}`, { Connection: value })
  ),
  notTaken("neither Upgrade nor Connection", { Upgrade: undefined, Connection: undefined }),

  notTaken("a subprotocol where none was offered", protocol("v1.chat")),
  notTaken("a subprotocol that was not offered", protocol("v3.chat"), { subprotocols }),
  notTaken("a subprotocol in other letters", protocol("V1.CHAT"), { subprotocols }),
  notTaken("two subprotocols", protocol("v1.chat, v2.chat"), { subprotocols }, "4.3"),
  notTaken("two subprotocols in two lines", protocol(["v1.chat", "v2.chat"]), { subprotocols }, "11.3.4"),
  notTaken("an empty subprotocol", protocol(""), { subprotocols }, "4.3"),
  notTaken("a subprotocol that is not a token", protocol("v1 chat"), { subprotocols }, "4.3"),

  notTaken("an extension that was not offered", extensions("x-unknown"), {}, "9.1"),
  notTaken("permessage-deflate where it was not offered", extensions("permessage-deflate"), { deflate: false }, "9.1"),
  ...["", ",", ";", "permessage-deflate;", "permessage-deflate; =", "permessage-deflate; a=\"b", "a b"].map((value) =>
    notTaken(`extensions that are malformed: ${value}`, extensions(value), { deflate: true }, "9.1")
  )
]

const agreeing = (value: string): ClientHandshakeRule =>
  taken(`${value} (RFC 7692, section 7.1)`, extensions(value), { deflate: true }, "9.1")

const disagreeing = (value: string): ClientHandshakeRule =>
  notTaken(`${value} (RFC 7692, section 7.1)`, extensions(value), { deflate: true }, "9.1")

export const compressing: ReadonlyArray<ClientHandshakeRule> = [
  taken("no compression", {}, { deflate: true }, "9.1"),
  // What a client has offered to require, an answer has to repeat; this one may be said unasked, too.
  answered(
    "taken or refused, by what was offered: permessage-deflate (RFC 7692, section 7.1.1)",
    { _tag: "Switch", headers: switching(extensions("permessage-deflate")) },
    either,
    "9.1",
    { deflate: true }
  ),
  agreeing("permessage-deflate; server_no_context_takeover"),
  agreeing("permessage-deflate; client_no_context_takeover; server_no_context_takeover"),
  agreeing("permessage-deflate; server_no_context_takeover; server_max_window_bits=10"),
  agreeing("permessage-deflate; server_no_context_takeover; server_max_window_bits=\"10\""),
  disagreeing("permessage-deflate; x-unknown"),
  disagreeing("permessage-deflate; server_no_context_takeover=1"),
  disagreeing("permessage-deflate; client_no_context_takeover=1"),
  disagreeing("permessage-deflate; server_no_context_takeover; server_no_context_takeover"),
  disagreeing("permessage-deflate; server_max_window_bits=10; server_max_window_bits=11"),
  ...["server", "client"].flatMap((side) =>
    ["", "=7", "=16", "=08", "=+9", "=9.5", "=nine"].map((value) =>
      disagreeing(`permessage-deflate; ${side}_max_window_bits${value}`)
    )
  ),
  disagreeing("permessage-deflate, permessage-deflate"),
  disagreeing("permessage-deflate, x-unknown")
]

const empty = [["Content-Length", "0"]] as const

// The first is right in all but the status.
export const statuses: ReadonlyArray<ClientHandshakeRule> = [
  answered(
    "refused: 200, and an upgrade",
    bytes(headOf([...switching(), ...empty], "HTTP/1.1 200 OK")),
    refused
  ),
  ...[200, 204, 304, 400, 401, 403, 404, 407, 426, 429, 500, 503].map((status) =>
    answered(`refused: ${status}`, bytes(headOf(empty, `HTTP/1.1 ${status} No`)), refused)
  ),
  ...[301, 302, 307, 308].map((status) =>
    answered(
      `refused: ${status} to a place that there is not`,
      bytes(headOf([...empty, ["Location", "http://127.0.0.1:1/"]], `HTTP/1.1 ${status} There`)),
      refused
    )
  ),
  answered(
    "refused: 401, with a demand for credentials and a body",
    bytes(`${headOf([["WWW-Authenticate", "Basic"], ["Content-Length", "5"]], "HTTP/1.1 401 Who")}hello`),
    refused
  ),
  answered("refused: 101 in HTTP/1.0", bytes(headOf(switching(), "HTTP/1.0 101 Switching Protocols")), refused)
]

const unreadable = (title: string, text: string): ClientHandshakeRule =>
  answered(`refused: ${title}`, bytes(text), refused, "10.4")

const withLine = (line: string): string => good.replace("\r\n\r\n", `\r\n${line}\r\n\r\n`)
const megabyte = "x".repeat(1024 * 1024)

export const heads: ReadonlyArray<ClientHandshakeRule> = [
  unreadable("what is not HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
  unreadable("another protocol", "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
  unreadable("frames at once", "\x81\x05hello"),
  unreadable("a request", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
  unreadable("a version of HTTP that there is not", good.replace("HTTP/1.1", "HTTP/3.7")),
  unreadable("a status that is no number", good.replace("101", "1o1")),
  unreadable("a status of four digits", good.replace("101", "1010")),
  unreadable("a header without a colon", withLine("X-A")),
  unreadable("a header without a name", withLine(": a")),
  unreadable("a header name with a space in it", withLine("X A: a")),
  unreadable("a zero byte in a header", withLine("X-A: a\0b")),
  unreadable("a lone carriage return in a header", withLine("X-A: a\rb")),
  unreadable("a megabyte in one header", withLine(`X-Long: ${megabyte}`)),
  unreadable("a megabyte of headers", withLine("X-A: b\r\n".repeat(1024 * 128).trim())),
  unreadable("a megabyte of a head without an end", good.replace("\r\n\r\n", `\r\nX-Long: ${megabyte}`)),
  unreadable("a megabyte of reason phrase", good.replace("Switching Protocols", megabyte)),
  unreadable("a megabyte without a line", megabyte),
  ...["Content-Length: 5", "Transfer-Encoding: chunked"].map((line) =>
    answered(`taken or refused: a 101 with a body (${line})`, bytes(withLine(line)), either)
  )
]

// As long as any other accept.
const { length } = good.replace("{accept}", sampleAccept)
const frames = String.fromCharCode(...Wire.encode("server", [Wire.text("one"), Wire.text("two")]))
const upTo = (count: number) => Array.from({ length: count }, (_, i) => i)

export const pieces: ReadonlyArray<ClientHandshakeRule> = [
  answered("taken: frames in one piece with the head", bytes(good + frames), connects("one", "two"), "4.2.2"),
  answered(
    "taken: byte by byte",
    { _tag: "Bytes", text: good + frames, cuts: upTo(length + frames.length).slice(1), ending: "Wait" },
    connects("one", "two"),
    "4.2.2"
  ),
  ...upTo(length + frames.length).slice(1).map((at) =>
    answered(
      `taken: in two pieces, cut after ${at} bytes`,
      { _tag: "Bytes", text: good + frames, cuts: [at], ending: "Wait" },
      connects("one", "two"),
      "4.2.2"
    )
  )
]

export const losses: ReadonlyArray<ClientHandshakeRule> = (["End", "Reset"] as const).flatMap((ending) =>
  upTo(length + 1).map((count) =>
    answered(
      `${ending === "End" ? "the end" : "a reset"} after ${count} bytes of the answer harms nobody`,
      { _tag: "Bytes", text: good, upTo: count, ending },
      // After all of it, there was a connection.
      ending === "End" && count < length ? refused : { _tag: "Over" },
      "7.1.7"
    )
  )
)

const slow = (title: string, text: string, count?: number): ClientHandshakeRule =>
  answered(
    `given up: ${title}`,
    { ...bytes(text), ...(count !== undefined && { upTo: count }) },
    refused,
    "10.4",
    { handshakeMillis: 500 }
  )

export const silence: ReadonlyArray<ClientHandshakeRule> = [
  ...[0, 1, "HTTP/1.1 101 Switching Protocols\r\nUp".length, length - 1].map((count) =>
    slow(`a server that stops after ${count} bytes of its answer`, good, count)
  ),
  slow("informational responses, and no other", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100)),
  slow("a refusal whose body does not come", headOf([["Content-Length", "10"]], "HTTP/1.1 403 No")),
  slow("a refusal whose body does not end", headOf([], "HTTP/1.1 403 No"))
]
