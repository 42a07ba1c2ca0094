/**
 * A process of its own for one end of a connection, so that its memory and its event loop are nobody else's.
 */
import { Cause, Effect, Exit } from "effect"
import { fork, type Serializable } from "node:child_process"
import { fileURLToPath } from "node:url"

/** What a process can be asked to do, by name. */
export type Commands = Record<string, (argument: never) => Effect.Effect<unknown, unknown>>

/** A running process, as its parent sees it: a command that fails there is a defect here. */
export type Remote<C extends Commands> = <K extends keyof C>(
  name: K,
  ...argument: Parameters<C[K]>
) => Effect.Effect<Effect.Success<ReturnType<C[K]>>>

interface Question {
  readonly id: number
  readonly name: string
  readonly argument: never
}

interface Answer {
  readonly id: number
  readonly value?: unknown
  readonly failure?: string
}

/** Carries out the commands of the parent, and ends when the parent does. */
export const answer = (commands: Commands): void => {
  process.on("message", ({ argument, id, name }: Question) => {
    Effect.runCallback(Effect.suspend(() => commands[name]!(argument)), {
      onExit: (exit) => {
        const answer: Answer = Exit.isSuccess(exit)
          ? { id, value: exit.value }
          : { id, failure: Cause.pretty(exit.cause) }
        process.send?.(answer)
      }
    })
  })
  process.on("disconnect", () => process.exit())
}

/** Starts a script of this folder; the process is killed when the scope closes. */
export const start = Effect.fnUntraced(function*<C extends Commands>(
  script: string,
  execArgv: ReadonlyArray<string> = []
) {
  const waiting = new Map<number, (answer: Answer) => void>()
  let last = 0
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const child = fork(fileURLToPath(new URL(script, import.meta.url)), { execArgv: [...execArgv] })
      child.on("message", (answer: Answer) => waiting.get(answer.id)?.(answer))
      child.on("exit", (code, signal) => {
        for (const [id, settle] of waiting) settle({ id, failure: `${script} has ended: ${code ?? signal}` })
      })
      return child
    }),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  const remote: Remote<C> = (name, ...[argument]) =>
    Effect.callback((resume) => {
      const id = ++last
      waiting.set(id, ({ failure, value }) => {
        waiting.delete(id)
        resume(failure === undefined ? Effect.succeed(value as never) : Effect.die(new Error(failure)))
      })
      child.send({ id, name, argument } as Serializable)
    })
  return remote
})
