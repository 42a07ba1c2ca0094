/**
 * What the page shows, and what people do in it.
 */
import type { Ending, State } from "@effect-ws/core/Reconnect"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import type { Person, ToPage } from "../Protocol.ts"

const $ = <E extends HTMLElement = HTMLElement>(id: string) => document.getElementById(id) as E

let me: Person | undefined
let isOpen = false
let isSending = false
// By the ids of members.
const present = new Map<string, Person>()
// By their own ids: those who are not present any more, and may be back in a moment.
const missed = new Set<string>()

const written = $<HTMLInputElement>("text")

const eventsOf = (target: EventTarget, type: string) =>
  Stream.callback<Event>((queue) => {
    const listener = (event: Event) => {
      event.preventDefault()
      Queue.offerUnsafe(queue, event)
    }
    return Effect.acquireRelease(
      Effect.sync(() => target.addEventListener(type, listener)),
      () => Effect.sync(() => target.removeEventListener(type, listener))
    )
  })

/** The names that people want to join as. */
export const names = Stream.map(eventsOf($("join"), "submit"), () => $<HTMLInputElement>("name").value.trim())

/** What they want to say. It stays where it was written until it is in the log, as the connection may be lost before. */
export const texts = eventsOf($("say"), "submit").pipe(
  Stream.map(() => written.value.trim()),
  Stream.filter((text) => text !== ""),
  Stream.tap(() => Effect.sync(() => setSending(true)))
)

/** That they leave. */
export const leaves = eventsOf($("leave"), "click")

/** That another attempt makes sense at once. */
export const retries = Stream.merge(eventsOf($("now"), "click"), eventsOf(window, "online"))

/** The program is there: people may join. */
export const ready = (): void => {
  $<HTMLButtonElement>("enter").disabled = false
}

/** Somebody comes in. */
export const enter = (person: Person): void => {
  me = person
  showControls(true)
  addNote(`You are ${person.name}`)
}

/** The conversation is over, for good. */
export const leave = (state: State): void => {
  showState(state, 0)
  showControls(false)
  setPresent([])
  missed.clear()
  addNote(state._tag === "Closed" && state.error !== undefined ? state.error.message : "You left")
}

/** Shows where the connection is. */
export const showState = (state: State, now: number): void => {
  const text = textOf(state)
  // Screen readers tell every change of it.
  if ($("state").textContent !== text) $("state").textContent = text
  $("state").dataset["state"] = state._tag
  $("retry").hidden = state._tag !== "Waiting"
  $("link").hidden = state._tag !== "Open"
  isOpen = state._tag === "Open"
  setSending(isOpen && isSending)
  // Who is in is only known while there is a connection.
  $("people").hidden = state._tag !== "Open"
  if (state._tag === "Waiting") {
    $("countdown").textContent = `next attempt in ${Math.max(0, Math.ceil((state.until - now) / 1000))} s`
  }
}

/** Shows what the server says. */
export const show = (said: ToPage): void => {
  switch (said._tag) {
    case "Snapshot":
      return setPresent(said.members)
    case "Joined":
    case "Updated":
      if (!isHere(said.member.metadata)) addNote(`${said.member.metadata.name} joined`)
      present.set(said.member.id, said.member.metadata)
      return showPeople()
    case "Left":
      present.delete(said.member.id)
      missed.add(said.member.metadata.id)
      return showPeople()
    case "Gap":
      return addNote("Some messages are missing here")
    case "Said":
      return addMessage(said)
    case "NotSent":
      setSending(false)
      return addNote(`This may not have been sent: ${said.text}`)
    case "Link":
      $("roundTrip").textContent = `${said.roundTripMillis.toFixed(1)} ms`
      $("queue").textContent = `${said.queuedBytes} B`
      $("process").textContent = String(said.process)
  }
}

/** Somebody has not come back. */
export const showAbsence = (person: Person): void => {
  missed.delete(person.id)
  if (!isHere(person)) addNote(`${person.name} left`)
}

const textOf = (state: State): string => {
  switch (state._tag) {
    case "Connecting":
      return "connecting"
    case "Open":
      return "open"
    case "Waiting":
      return `waiting: ${reasonOf(state.ending)}`
    case "Closed":
      return "closed"
  }
}

const meanings: Record<number, string> = {
  1001: "the server went away",
  1006: "the connection was lost",
  1012: "the server restarts",
  1013: "the server is busy"
}

const reasonOf = (ending: Ending): string =>
  ending._tag === "ConnectionEnded"
    ? ending.closeEvent.reason || meanings[ending.closeEvent.code] || `closed with ${ending.closeEvent.code}`
    : "no connection"

const showControls = (isIn: boolean): void => {
  $("join").hidden = isIn
  $("say").hidden = !isIn
  $(isIn ? "text" : "name").focus()
}

const setSending = (is: boolean): void => {
  isSending = is
  written.readOnly = isSending
  $<HTMLButtonElement>("send").disabled = isSending || !isOpen
}

const isHere = ({ id }: Person): boolean => missed.has(id) || [...present.values()].some((person) => person.id === id)

const setPresent = (members: ReadonlyArray<{ readonly id: string; readonly metadata: Person }>): void => {
  present.clear()
  for (const { id, metadata } of members) present.set(id, metadata)
  showPeople()
}

const showPeople = (): void => {
  const people = new Map([...present.values()].map((person) => [person.id, person]))
  $("people").replaceChildren(
    ...[...people.values()].map((person) =>
      element("li", "", nameOf(person), ...(person.id === me?.id ? [" ", element("small", "", "(you)")] : []))
    )
  )
}

const addMessage = ({ by, text, time }: Extract<ToPage, { readonly _tag: "Said" }>): void => {
  if (by.id === me?.id && text === written.value.trim()) {
    written.value = ""
    setSending(false)
    written.focus()
  }
  const head = element("div", "by", nameOf(by), timeOf(time))
  addLine(element("div", by.id === me?.id ? "said mine" : "said", head, element("p", "", text)))
}

const addNote = (text: string): void => addLine(element("p", "note", text))

const addLine = (line: HTMLElement): void => {
  const log = $("log")
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40
  log.append(line)
  while (log.childElementCount > 500) log.firstElementChild!.remove()
  if (isAtEnd) log.scrollTop = log.scrollHeight
}

const nameOf = ({ id, name }: Person): HTMLElement => {
  const node = element("span", "name", name)
  node.style.setProperty("--hue", String(Number.parseInt(id.slice(0, 6), 36) % 360))
  return node
}

const timeOf = (millis: number): HTMLElement => {
  const time = DateTime.makeUnsafe(millis)
  const node = element("time", "", DateTime.formatLocal(time, { hour: "2-digit", minute: "2-digit" }))
  node.setAttribute("datetime", DateTime.formatIso(time))
  return node
}

// Whatever comes from the network becomes text, never HTML.
const element = (tag: string, className: string, ...children: Array<Node | string>): HTMLElement => {
  const node = document.createElement(tag)
  node.className = className
  node.append(...children)
  return node
}
