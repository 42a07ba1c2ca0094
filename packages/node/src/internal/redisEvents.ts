/**
 * What travels through Redis: a line that Redis writes, a line of JSON, and a payload.
 */
import type { Position, RoomOverflow } from "@effect-ws/core/Room"
import type { BrokerEvent, Publication } from "@effect-ws/core/RoomBroker"
import { Buffer } from "node:buffer"

/** The line of JSON. "Mark" is only there to be counted; after "Lost", positions of a room count no more. */
export type Header =
  | {
    readonly kind: "Published"
    readonly room: string
    readonly binary: boolean
    readonly except?: string | undefined
    readonly overflow: RoomOverflow
  }
  | { readonly kind: "Entered" | "Left"; readonly room: string; readonly id: string }
  | { readonly kind: "Lost"; readonly room: string }
  | { readonly kind: "Mark" }

/** What a process receives on a channel; without an event, a room's state is to be asked for. */
export interface Arrival {
  readonly epoch: string
  readonly seq: number
  readonly room: string | undefined
  readonly event: BrokerEvent | undefined
}

export const body = (header: Header, payload: string | Uint8Array = ""): Buffer =>
  Buffer.concat([Buffer.from(`${JSON.stringify(header)}\n`), Buffer.from(payload as string)])

export const published = (room: string, { except, message, overflow }: Publication): Buffer =>
  body({ kind: "Published", room, binary: typeof message !== "string", except, overflow }, message)

/** Reads what came on a channel; `undefined` if it is not ours. */
export const parse = (bytes: Buffer): Arrival | undefined => {
  const end = bytes.indexOf(newline)
  const [epoch, seq, positionEpoch, offset] = bytes.toString("latin1", 0, end).split(" ")
  const position = positionEpoch === undefined ? undefined : { epoch: positionEpoch, offset: Number(offset) }
  const parsed = parseBody(bytes.subarray(end + 1), position)
  return end < 0 || epoch === undefined || parsed === undefined ? undefined : { epoch, seq: Number(seq), ...parsed }
}

/** Reads what a script was given as body. */
export const parseBody = (
  bytes: Buffer,
  position: Position | undefined
): Pick<Arrival, "room" | "event"> | undefined => {
  const end = bytes.indexOf(newline)
  const header = parseJson(bytes.toString("utf8", 0, end)) as Header | undefined
  const payload = bytes.subarray(end + 1)
  switch (header?.kind) {
    case "Published": {
      const { binary, except, overflow, room } = header
      const message = binary ? new Uint8Array(payload) : payload.toString()
      return { room, event: { _tag: "Published", publication: { message, except, overflow }, position } }
    }
    case "Entered": {
      const { id, room } = header
      return { room, event: { _tag: "Entered", member: { id, metadata: parseJson(payload.toString()) as null } } }
    }
    case "Left":
      return { room: header.room, event: { _tag: "Left", id: header.id } }
    case "Lost":
      return { room: header.room, event: undefined }
    case "Mark":
      return { room: undefined, event: undefined }
    default:
      return undefined
  }
}

export const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const newline = 10
