/**
 * Several processes behind one port, with Node's cluster: the primary accepts sockets and gives them out in turn, the
 * workers serve them. One that dies is replaced; on SIGUSR2, all are, one after the other.
 */
import { WebSocketServer } from "@effect-ws/core"
import { Context, Deferred, Effect, Fiber, FiberSet, Layer, Queue, Schema, Stream } from "effect"
import cluster, { type Address, type Worker } from "node:cluster"

/** A worker ended before it listened. What went wrong, it has said itself. */
export class WorkerFailed extends Schema.TaggedError<WorkerFailed>("chat/WorkerFailed")("WorkerFailed", {}) {}

const exited = (worker: Worker) =>
  Effect.callback<void>((resume) => {
    if (worker.isDead()) return resume(Effect.void)
    const onExit = () => resume(Effect.void)
    worker.once("exit", onExit)
    return Effect.sync(() => worker.off("exit", onExit))
  })

// It has been told to end. If it is stuck, it is killed.
const ended = (worker: Worker) =>
  Effect.timeoutOrElse(exited(worker), {
    duration: "10 seconds",
    orElse: () => Effect.sync(() => worker.process.kill("SIGKILL"))
  })

// Another process that runs this program; when the scope closes, it is ended as by Ctrl-C.
const fork = Effect.acquireRelease(
  Effect.sync(() => cluster.fork()),
  (worker) =>
    Effect.suspend(() => {
      worker.process.kill("SIGTERM")
      return ended(worker)
    })
)

// Those who are to leave, and when their successors listen.
const successors = new WeakMap<Worker, Deferred.Deferred<Address, WorkerFailed>>()

// A worker without a successor, or with one that did not come up, stays.
const leaves = (worker: Worker) => {
  const successor = successors.get(worker)
  return successor === undefined ? Effect.succeed(false) : Effect.isSuccess(Deferred.await(successor))
}

// Keeps a worker running: one after the other, until one leaves. The first has to come up.
const keep = Effect.fnUntraced(function*(listening: Deferred.Deferred<Address, WorkerFailed>) {
  while (true) {
    const worker = yield* Effect.scoped(Effect.gen(function*() {
      const worker = yield* fork
      worker.once("listening", (address) => Deferred.doneUnsafe(listening, Effect.succeed(address)))
      yield* exited(worker)
      return worker
    }))
    if (yield* leaves(worker)) return
    if (yield* Deferred.fail(listening, new WorkerFailed({}))) return
    yield* Effect.logWarning(`Worker ${worker.process.pid} died, another one takes its place`)
    yield* Effect.sleep("1 second")
  }
})

/** In the primary: keeps so many workers running, until the scope closes. Gives the address they listen at. */
export const start = Effect.fnUntraced(function*(count: number) {
  const keepers = yield* FiberSet.make()
  const add = (listening = Deferred.makeUnsafe<Address, WorkerFailed>()) =>
    Effect.andThen(FiberSet.run(keepers, keep(listening)), Deferred.await(listening))
  // For each worker a new one, and only when that listens, the old one is told to go.
  const renew = Effect.fnUntraced(function*(worker: Worker) {
    // Its successor is new already.
    if (worker.isDead()) return
    const successor = Deferred.makeUnsafe<Address, WorkerFailed>()
    successors.set(worker, successor)
    yield* Effect.logInfo(`Worker ${worker.process.pid} is to be renewed`)
    yield* add(successor)
    // It may be gone in this moment.
    worker.send("go", () => {})
    worker.disconnect()
    yield* ended(worker)
  })
  const renewAll = Effect.suspend(() =>
    Effect.forEach(Object.values(cluster.workers ?? {}), (worker) => renew(worker!), { discard: true })
  ).pipe(Effect.catch(() => Effect.logWarning("The new worker did not come up, the old ones stay")))

  const restarts = Stream.callback<void>((queue) => {
    const onSignal = () => Queue.offerUnsafe(queue, undefined)
    return Effect.acquireRelease(
      Effect.sync(() => process.on("SIGUSR2", onSignal)),
      () => Effect.sync(() => process.off("SIGUSR2", onSignal))
    )
  })
  yield* Effect.forkScoped(Stream.runForEach(restarts, () => renewAll))
  const [address] = yield* Effect.all(Array.from({ length: count }, () => add()), { concurrency: "unbounded" })
  return address!
})

/**
 * In a worker: serves until the primary tells it to go. Then it gets no more sockets, and its clients are told, with 1012,
 * to come back: another worker is there for them.
 */
export const serve = <E, R>(server: Layer.Layer<WebSocketServer.WebSocketServer, E, R>) =>
  Effect.gen(function*() {
    const told = yield* Effect.forkScoped(
      Effect.callback<void>((resume) => {
        process.once("message", () => resume(Effect.void))
      }),
      { startImmediately: true }
    )
    const context = yield* Layer.build(server)
    yield* Fiber.join(told)
    const { connections } = Context.get(context, WebSocketServer.WebSocketServer)
    yield* Effect.forEach(yield* connections, (connection) => Effect.ignore(connection.close(1012, "restarting")), {
      concurrency: "unbounded",
      discard: true
    })
  }).pipe(Effect.scoped)
