/** Two implementations side by side, in turn. */

import type { Child } from './child.ts'

export interface Compared {
  /** Median over the pairs of how much time the first takes of the second's. */
  readonly ratio: number
  readonly lowest: number
  readonly highest: number
  /** Median seconds of a piece of work. */
  readonly seconds: number
  readonly peerSeconds: number
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** Of the seconds that pieces of work took, pair by pair. */
export function compared(pairs: readonly (readonly [number, number])[]): Compared {
  const ratios = pairs.map(([ours, theirs]) => ours / theirs)
  return {
    ratio: median(ratios),
    lowest: Math.min(...ratios),
    highest: Math.max(...ratios),
    seconds: median(pairs.map(([ours]) => ours)),
    peerSeconds: median(pairs.map(([, theirs]) => theirs)),
  }
}

/** Pieces of work that take about so many seconds; the first ones are warm-up. */
export async function timesFor(child: Child, seconds: number): Promise<number> {
  await child.work(2)
  return Math.max(1, Math.round((2 * seconds) / (await child.work(2))))
}

/** One after the other, as often as asked, each turn about so many seconds long. */
export async function runPairs(ours: Child, theirs: Child, pairs: number, seconds: number): Promise<Compared> {
  const [times, peerTimes] = [await timesFor(ours, seconds), await timesFor(theirs, seconds)]
  const found: [number, number][] = []
  for (let pair = 0; pair < pairs; pair++)
    found.push([(await ours.work(times)) / times, (await theirs.work(peerTimes)) / peerTimes])
  return compared(found)
}
