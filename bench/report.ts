/** A run as Markdown, for the terminal and for docs/performance.md. */
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { ours, reference } from "./peers.ts"
import {
  disturbance,
  isDisturbed,
  isDoubtful,
  perCpu,
  type Run,
  summarise,
  type Summary,
  takesPart
} from "./results.ts"
import type { Metric, Workload } from "./workloads.ts"

/** A number with three significant digits. */
export const short = (value: number): string => {
  if (value >= 999_500) return `${Number((value / 1e6).toPrecision(3))} M`
  if (value >= 9995) return `${Number((value / 1e3).toPrecision(3))} k`
  return value >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3)))
}

const times = (ratio: number): string => `${ratio >= 10 ? ratio.toFixed(1) : ratio.toFixed(2)}×`

const cell = (summary: Summary | undefined): string => {
  if (summary === undefined) return ""
  return summary.ratio === undefined ? short(summary.value) : `${short(summary.value)} (${times(summary.ratio)})`
}

const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string => {
  const widths = head.map((title, i) => Math.max(3, title.length, ...rows.map((row) => row[i]!.length)))
  const line = (cells: ReadonlyArray<string>) => `| ${cells.map((text, i) => text.padEnd(widths[i]!)).join(" | ")} |`
  return [line(head), `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`, ...rows.map(line)].join("\n")
}

const nameOf = (workload: Workload, metric: Metric): string =>
  `${workload.title}${metric.name === undefined ? "" : `: ${metric.name}`}, ${metric.unit}`

/** The target of a metric, and whether our two levels reach it. */
const target = (run: Run, workload: Workload, metric: Metric): string => {
  if (metric.target === undefined) return ""
  const ws = summarise(run, workload, metric, reference)
  const marks = ours.map((id, level) => {
    const summary = summarise(run, workload, metric, id)
    if (ws === undefined || summary?.ratio === undefined) return ""
    // A rate of a process that did not have its core to itself says nothing.
    const matters = metric.better === "more" && !run.perCpu
    if (matters && (isDoubtful(run, workload, id) || isDoubtful(run, workload, reference))) return "?"
    return metric.target!.isMet(level as 0 | 1, summary.value, ws.value, summary.ratio) ? "✓" : "✗"
  })
  return `${metric.target.text} ${marks.join(" ")}`.trim()
}

const resultsTable = (run: Run, workloads: ReadonlyArray<Workload>): string => {
  const peers = run.peers.filter((peer) => workloads.some((workload) => takesPart(workload, peer)))
  const hasTargets = workloads.some(({ metrics }) => metrics.some(({ target }) => target !== undefined))
  const rows = workloads.flatMap((workload) =>
    workload.metrics.map((metric) => [
      nameOf(workload, metric),
      ...(hasTargets ? [target(run, workload, metric)] : []),
      ...peers.map(({ id }) => cell(summarise(run, workload, metric, id)))
    ])
  )
  return table(["workload", ...(hasTargets ? ["target a / b"] : []), ...peers.map(({ label }) => label)], rows)
}

// What is needed to judge the numbers: how far ratios varied, and whether the load was the limit.
const conditionsTable = (run: Run): string => {
  const busy: Metric = { unit: "", better: "more", of: ({ cpu }) => cpu }
  const loadBusy: Metric = { unit: "", better: "more", of: ({ loadCpu }) => loadCpu }
  const percent = (metric: Metric, workload: Workload, id: string): string => {
    const summary = summarise(run, workload, metric, id)
    return summary === undefined ? "" : `${Math.round(summary.value * 100)}`
  }
  const ratios = (workload: Workload, id: string): string => {
    const [metric] = workload.metrics
    const spread = summarise(run, workload, metric!, id)?.spread
    if (spread === undefined) return ""
    const byCpu = metric!.better === "more" && !run.perCpu
      ? summarise(run, workload, perCpu(metric!), id)?.ratio
      : undefined
    return spread.map(times).join(" – ") + (byCpu === undefined ? "" : `, ${times(byCpu)}`)
  }
  const rows = run.workloads.map((workload) => [
    workload.title,
    ...ours.map((id) => ratios(workload, id)),
    ...run.peers.map(({ id }) => {
      const [tested, load] = [percent(busy, workload, id), percent(loadBusy, workload, id)]
      return tested === "" ? "" : `${tested} / ${load}`
    })
  ])
  return table(["workload", "(a)", "(b)", ...run.peers.map(({ label }) => label)], rows)
}

const groups = [
  ["server", "Servers"],
  ["client", "Clients, against an echo that does not parse"],
  ["tls", "Servers that speak TLS"],
  ["rooms", "10,000 members in 100 rooms, 64 B"],
  ["growth", "What grows"]
] as const

/** The whole report. */
export const report = (run: Run): string => {
  const sections = groups.flatMap(([group, title]) => {
    const workloads = run.workloads.filter((workload) => workload.group === group)
    return workloads.length === 0 ? [] : [`### ${title}`, resultsTable(run, workloads)]
  })
  const disturbed = run.results.filter(isDisturbed)
  const failures = run.results.filter(({ measurement }) => typeof measurement === "string")
  return [
    `${run.date}. ${run.versions}.`,
    `${run.machine}. ${run.pinning}. The load is ${run.load}.`,
    `Medians of ${run.rounds} interleaved rounds of ${run.seconds} s after ${run.warmup} s of warming up, each with fresh ` +
    "processes. In parentheses the ratio to `ws` in the same round; more than 1 is better, whatever the unit.",
    ...sections,
    "### Conditions",
    "The least and the largest ratio of ours in the rounds, and the ratio of what a second of CPU achieved. Then, for each " +
    "peer, how many percent of a core the process under test and the load kept busy: where the load comes close to 100, " +
    "it is the load that was measured (but for the latency, where it never sleeps). " +
    (disturbed.length === 0
      ? "No measurement was disturbed by other processes."
      : `In ${disturbed.length} of ${run.results.length} measurements something else had the core of the process under ` +
        `test for more than ${disturbance * 100} % of the time` +
        (run.perCpu ? ", which a second of CPU hardly feels." : "; a target is then neither met nor missed (?).")),
    conditionsTable(run),
    ...(failures.length === 0 ? [] : ["### Failures"]),
    ...new Set(failures.map(({ measurement, peer, workload }) => `- ${workload}, ${peer}: ${String(measurement)}`))
  ].join("\n\n")
}

const [begin, end] = ["<!-- bench: written by npm run bench -- --write -->", "<!-- bench: end -->"]

/** Puts text between two marks of a file, and leaves everything else in it. */
export const writeSection = (file: string, text: string): void => {
  const before = existsSync(file) ? readFileSync(file, "utf8") : `# Performance\n\n${begin}\n${end}\n`
  const [from, to] = [before.indexOf(begin), before.indexOf(end)]
  if (from < 0 || to < from) throw new Error(`${file} has lost the marks to write between: ${begin} and ${end}`)
  writeFileSync(file, `${before.slice(0, from)}${begin}\n\n${text}\n\n${before.slice(to)}`)
}
