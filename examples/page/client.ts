/**
 * What runs in the page: it asks the server that the page came from, and shows what it answers.
 */
// From modules of their own: whoever imports "effect" loads all of it.
import * as BrowserWebSocketClient from "@effect-ws/core/BrowserWebSocketClient"
import * as WebSocketClient from "@effect-ws/core/WebSocketClient"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"

const show = (id: string, text: string) =>
  Effect.sync(() => {
    const line = document.createElement("p")
    line.textContent = text
    document.getElementById(id)!.append(line)
  })

const program = Effect.gen(function*() {
  const connection = yield* WebSocketClient.connect(new URL("/echo", location.href.replace("http", "ws")))
  const states = yield* Effect.forkScoped(Stream.runForEach(connection.changes, (state) => show("states", state)))
  yield* connection.sendAll(["hello", "from", "a page"])
  yield* Effect.forkScoped(Stream.runForEach(connection.messages, (message) => show("answers", String(message))))
  yield* Effect.callback<void>((resume) => {
    document.getElementById("leave")!.addEventListener("click", () => resume(Effect.void), { once: true })
  })
  yield* connection.close(4000, "enough")
  yield* Fiber.join(states)
  const { code, reason } = yield* connection.closed
  yield* show("states", `${code} ${reason}`)
})

program.pipe(
  Effect.catchTag("ConnectError", (error) => show("states", error.message)),
  Effect.scoped,
  Effect.provide(BrowserWebSocketClient.layer),
  Effect.runFork
)
