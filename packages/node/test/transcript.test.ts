import { type Connection, WebSocketServer } from "@effect-ws/core"
import { NodeWebSocketServer } from "@effect-ws/node"
import { Transcript } from "@effect-ws/test-kit"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import * as Http from "node:http"
import { connect, echo, start } from "./fixture.ts"

/** Records every connection, under the URL of its request. */
const recording = Effect.map(Transcript.recorder, (record) => {
  const recordings = new Map<string, Transcript.Recording>()
  const wrap: Connection.ConnectionOptions["wrap"] = (transport, { request }) => {
    const recording = record(transport)
    recordings.set(request.url, recording)
    return recording.transport
  }
  return { recordings, wrap }
})

// Who learns of the end first is up to the network.
const said = (entries: ReadonlyArray<Transcript.Entry>) =>
  Transcript.format(entries.flatMap((entry) => entry._tag === "Frame" ? [{ ...entry, at: 0 }] : []))

describe("a transcript", () => {
  it.live("of a client and of a server on Node tell the same", () =>
    Effect.gen(function*() {
      const server = yield* recording
      const client = yield* recording
      const { url } = yield* start(echo, { wrap: server.wrap })
      const connection = yield* connect(`${url}/a?b`, { wrap: client.wrap })
      yield* connection.sendAll(["hello", Uint8Array.of(1, 2, 3)])
      yield* connection.receive
      yield* connection.receive
      yield* connection.close(4000, "enough")
      const sent = yield* client.recordings.get("/a?b")!.entries
      assert.deepStrictEqual(said(sent).split("\n"), [
        "       0 -> text                5 \"hello\"",
        "       0 -> binary              3 010203",
        "       0 <- text                5 \"hello\"",
        "       0 <- binary              3 010203",
        "       0 -> close               8 4000 \"enough\"",
        "       0 <- close               8 4000 \"enough\""
      ])
      assert.strictEqual(said(Transcript.mirrored(yield* server.recordings.get("/a?b")!.entries)), said(sent))
    }))

  it.live("of a server that is mounted on another", () =>
    Effect.gen(function*() {
      const { recordings, wrap } = yield* recording
      const http = Http.createServer()
      yield* Effect.acquireRelease(
        Effect.callback<void>((resume) => void http.listen(0, "127.0.0.1", () => resume(Effect.void))),
        () => Effect.sync(() => http.close())
      )
      const mounted = NodeWebSocketServer.layerFromHttpServer(Effect.succeed(http), { wrap })
      const context = yield* Layer.build(Layer.provideMerge(echo, mounted))
      const { url } = Context.get(context, WebSocketServer.WebSocketServer)
      const connection = yield* connect(url)
      yield* connection.send("hello")
      yield* connection.receive
      const entries = yield* recordings.get("/")!.entries
      assert.deepStrictEqual(entries.map(({ direction }) => direction), ["received", "sent"])
    }))
})
