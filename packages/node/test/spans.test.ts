import * as NodeWebSocketRoute from "@effect-ws/node/NodeWebSocketRoute"
import { assert, it } from "@effect/vitest"
import { Context, Effect, Layer, Option, Tracer } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import { createServer } from "node:http"
import { connect } from "./fixture.ts"

it.live("the span of a handshake belongs into the one that the HTTP server made of the same request", () => {
  const spans: Array<Tracer.Span> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  const route = HttpRouter.add("GET", "/", NodeWebSocketRoute.upgrade((connection) => connection.send("hello")))
  const serving = HttpRouter.serve(route, { disableListenLog: true, disableLogger: true }).pipe(
    Layer.provideMerge(NodeWebSocketRoute.layerHttpServer(createServer, { host: "127.0.0.1", port: 0 }))
  )
  return Effect.gen(function*() {
    const server = Context.get(yield* Layer.build(serving), HttpServer.HttpServer)
    const connection = yield* connect(HttpServer.formatAddress(server.address).replace("http", "ws"))
    assert.strictEqual(yield* connection.receive, "hello")
    const parents = Object.fromEntries(spans.flatMap(({ kind, name, parent }) => {
      const { spanId } = Option.getOrThrow(Option.orElse(parent, () => Option.some({ spanId: "none" })))
      return kind === "server" ? [[name, spans.find((span) => span.spanId === spanId)?.name]] : []
    }))
    assert.deepStrictEqual(parents, {
      GET: "websocket.connect",
      "websocket.handshake": "GET",
      "websocket.connection": "websocket.handshake"
    })
  }).pipe(Effect.provideService(Tracer.Tracer, tracer))
})
