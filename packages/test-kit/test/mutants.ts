/**
 * Engines that are broken on purpose, each in one way: by what stands between them and their transport, or by their options.
 */
import { Opcode } from "@effect-ws/core/protocol/Frame"
import type { Transport, TransportHandler } from "@effect-ws/core/Transport"
import type { Simulation } from "@effect-ws/test-kit"

const around = (transport: Transport, changed: Partial<Transport>): Transport => ({
  peerAddress: transport.peerAddress,
  localAddress: transport.localAddress,
  capabilities: transport.capabilities,
  start: (handler) => transport.start(handler),
  pause: () => transport.pause(),
  resume: () => transport.resume(),
  write: (chunks) => transport.write(chunks),
  end: () => transport.end(),
  destroy: () => transport.destroy(),
  ...changed
})

const listening = (handler: TransportHandler, changed: Partial<TransportHandler>): TransportHandler => ({
  onData: (chunk) => handler.onData(chunk),
  onDrain: () => handler.onDrain(),
  onOverrun: () => handler.onOverrun(),
  onEnd: () => handler.onEnd(),
  onClose: (cause) => handler.onClose(cause),
  ...changed
})

const onServer = (mutate: (transport: Transport) => Transport): Simulation.Options["wrap"] => (transport, role) =>
  role === "server" ? mutate(transport) : transport

interface ServerFrame {
  readonly opcode: number
  readonly raw: Uint8Array
}

/** The frames that a server writes at once: they are whole, and not masked. */
const framesOf = (chunks: ReadonlyArray<Uint8Array>): Array<ServerFrame> => {
  const bytes = Uint8Array.from(chunks.flatMap((chunk) => [...chunk]))
  const view = new DataView(bytes.buffer)
  const frames: Array<ServerFrame> = []
  for (let at = 0; at < bytes.length;) {
    const short = bytes[at + 1]!
    const [header, length] = short === 127
      ? [10, view.getUint32(at + 6)]
      : short === 126
      ? [4, view.getUint16(at + 2)]
      : [2, short]
    frames.push({ opcode: bytes[at]! & 0xf, raw: bytes.subarray(at, at + header + length) })
    at += header + length
  }
  return frames
}

const writeFrames = (transport: Transport, frames: ReadonlyArray<ServerFrame>): boolean =>
  frames.length === 0 || transport.write(frames.map(({ raw }) => raw))

/** Frames of an opcode are never sent. */
const withholding = (opcode: number) =>
  onServer((transport) =>
    around(transport, {
      write: (chunks) => writeFrames(transport, framesOf(chunks).filter((frame) => frame.opcode !== opcode))
    })
  )

/** What the link does not take at once waits, and a Close is sent instead of it. */
const closingWithoutDrain = onServer((transport) => {
  let waiting: Array<ServerFrame> = []
  let isBusy = false
  let isEnding = false
  const flush = () => {
    const frames = waiting
    waiting = []
    isBusy = !writeFrames(transport, frames)
    if (isEnding && !isBusy) transport.end()
  }
  return around(transport, {
    start: (handler) => transport.start(listening(handler, { onDrain: flush })),
    write: (chunks) => {
      for (const frame of framesOf(chunks)) {
        if (frame.opcode === Opcode.close) waiting = []
        waiting.push(frame)
      }
      if (!isBusy) flush()
      return true
    },
    end: () => {
      isEnding = true
      if (!isBusy) flush()
    }
  })
})

const nth = (n: number, happen: () => void, otherwise: () => void) => {
  let count = 0
  return () => ++count === n ? happen() : otherwise()
}

export const mutants: Readonly<Record<string, Simulation.Options>> = {
  "a Pong is never sent": { wrap: withholding(Opcode.pong) },
  "a Close is never sent": { wrap: withholding(Opcode.close) },
  "a wake-up on drain is lost": {
    wrap: onServer((transport) =>
      around(transport, {
        start: (handler) => transport.start(listening(handler, { onDrain: nth(2, () => {}, () => handler.onDrain()) }))
      })
    )
  },
  "the length limit is one too low": {
    server: (options) => ({ ...options, maxMessageBytes: (options.maxMessageBytes ?? 0) - 1 })
  },
  "the length limit is one too high": {
    server: (options) => ({ ...options, maxMessageBytes: (options.maxMessageBytes ?? 0) + 1 })
  },
  "a Close does not wait for what is queued": { wrap: closingWithoutDrain },
  "sends do not suspend": {
    server: (options) => ({ ...options, maxQueuedBytes: Infinity, maxQueuedMessages: Infinity })
  },
  "a chunk is read twice": {
    wrap: onServer((transport) =>
      around(transport, {
        start: (handler) => {
          let count = 0
          transport.start(listening(handler, {
            onData: (chunk) => {
              if (++count === 3) handler.onData(chunk.slice())
              handler.onData(chunk)
            }
          }))
        }
      })
    )
  },
  "a message is lost": {
    wrap: onServer((transport) => {
      let count = 0
      return around(transport, {
        write: (chunks) =>
          writeFrames(transport, framesOf(chunks).filter(({ opcode }) => opcode !== Opcode.binary || ++count !== 2))
      })
    })
  },
  "a dead connection is not dropped": {
    wrap: onServer((transport) => around(transport, { destroy: () => {} }))
  }
}
