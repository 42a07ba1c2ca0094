/**
 * One microtask that flushes all that was sent in a turn of the event loop.
 *
 * @since 0.1.0
 */

interface Flushable {
  readonly flush: () => void
}

let unflushed: Array<Flushable> = []

/** Flushes before the turn ends. */
export const flushSoon = (queue: Flushable): void => {
  if (unflushed.push(queue) === 1) queueMicrotask(flushAll)
}

const flushAll = (): void => {
  const queues = unflushed
  unflushed = []
  let flushed = 0
  try {
    while (flushed < queues.length) queues[flushed++]!.flush()
  } finally {
    // What a callback of one connection throws is no affair of the others.
    for (const queue of queues.slice(flushed)) queueMicrotask(() => queue.flush())
  }
}
