/** A run as a picture: for each workload a bar for each peer, as long as its ratio to `ws` on a logarithmic scale. */
import { reference } from "./peers.ts"
import { type Run, summarise } from "./results.ts"

const barHeight = 12
const gap = 14
const left = 400
const right = 760
const width = 840

const colours: Record<string, string> = {
  "effect-ws": "#d62728",
  "effect-ws-batch": "#ff7f0e",
  ws: "#7f7f7f",
  "ws-bufferutil": "#b0b0b0",
  effect: "#9467bd",
  node: "#8c564b",
  net: "#1f77b4",
  "net-onread": "#17becf",
  bun: "#bcbd22",
  deno: "#2ca02c"
}

const escape = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;")

/** The picture as SVG; empty where nothing can be compared. */
export const chart = (run: Run): string => {
  const rows = run.workloads.filter(({ group }) => group === "server" || group === "client").map((workload) => {
    const [metric] = workload.metrics
    const bars = run.peers.flatMap((peer) => {
      const ratio = summarise(run, workload, metric!, peer.id)?.ratio
      return ratio === undefined || peer.id === reference ? [] : [{ peer, ratio }]
    })
    return { title: workload.title.replaceAll("`", ""), bars }
  }).filter(({ bars }) => bars.length > 0)
  if (rows.length === 0) return ""

  const ratios = rows.flatMap(({ bars }) => bars.map(({ ratio }) => ratio))
  const [least, most] = [Math.log10(Math.min(0.5, ...ratios)), Math.log10(Math.max(2, ...ratios))]
  const x = (ratio: number): number => Math.round(left + (Math.log10(ratio) - least) / (most - least) * (right - left))

  let y = 60
  const parts: Array<string> = []
  for (const { bars, title } of rows) {
    parts.push(`<text x="${left - 12}" y="${y + 10}" text-anchor="end">${escape(title)}</text>`)
    for (const { peer, ratio } of bars) {
      const [from, to] = [Math.min(x(1), x(ratio)), Math.max(x(1), x(ratio))]
      parts.push(
        `<rect x="${from}" y="${y}" width="${Math.max(1, to - from)}" height="${barHeight - 2}" fill="${
          colours[peer.id]
        }"/>`,
        `<text x="${to + 4}" y="${y + 9}" font-size="9">${ratio >= 10 ? ratio.toFixed(0) : ratio.toFixed(2)}</text>`
      )
      y += barHeight
    }
    y += gap
  }

  const ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200]
    .filter((tick) => Math.log10(tick) >= least && Math.log10(tick) <= most)
    .map((tick) =>
      `<line x1="${x(tick)}" x2="${x(tick)}" y1="52" y2="${y - gap}" stroke="${tick === 1 ? "#555" : "#ddd"}"/>` +
      `<text x="${x(tick)}" y="48" text-anchor="middle" fill="#555">${tick}×</text>`
    )
  const shown = run.peers.filter(({ id }) => rows.some(({ bars }) => bars.some(({ peer }) => peer.id === id)))
  const legend = shown.map(({ id, label }, i) => {
    const at = 12 + i * ((width - 12) / shown.length)
    return `<rect x="${at}" y="12" width="10" height="10" fill="${colours[id]}"/>` +
      `<text x="${at + 14}" y="21" font-size="10">${escape(label)}</text>`
  })
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y}" viewBox="0 0 ${width} ${y}" ` +
    "font-family=\"sans-serif\" font-size=\"11\">",
    `<rect width="${width}" height="${y}" fill="#fff"/>`,
    ...legend,
    `<text x="${left - 12}" y="48" text-anchor="end" fill="#555">times as good as ws</text>`,
    ...ticks,
    ...parts,
    "</svg>\n"
  ].join("\n")
}
