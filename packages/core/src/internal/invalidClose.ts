/**
 * What a close may say.
 *
 * @since 0.1.0
 */
import * as CloseFrame from "../protocol/CloseFrame.ts"
import type { Utf8Codec } from "../protocol/Utf8.ts"
import { CloseError, CloseReasonTooLong, InvalidCloseCode } from "../WebSocketError.ts"

/** Why a code or reason cannot be put on the wire, if it cannot. */
export const invalidClose = (code: number, reason: string, utf8: Utf8Codec): CloseError | undefined => {
  if (!CloseFrame.isCloseCode(code)) return new CloseError({ reason: new InvalidCloseCode({ code }) })
  const bytes = utf8.byteLength(reason)
  return bytes > CloseFrame.maxReasonBytes ? new CloseError({ reason: new CloseReasonTooLong({ bytes }) }) : undefined
}
