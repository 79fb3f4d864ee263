/** Images whose probability is known, and what a model says of it. All numbers are bits per dimension. */

import { createGlow, type FlowModel, type Images, imagesInMemory } from 'glowflow'

import { random } from './random.ts'

/** How pixels are drawn. */
export interface Law {
  readonly name: string
  readonly bits: number
  /** Of each level of `bits` bits, for a pixel by itself. */
  readonly probabilities: readonly number[]
  /**
   * Without it pixels are independent. With it a row's first pixel alone is drawn by `probabilities`, which are equal, and each
   * other one is a level above or below its left neighbour, where there is such a level, with this probability each.
   */
  readonly wander?: number
}

const uniform = (bits: number): Law => ({
  name: `${bits} bits, uniform`,
  bits,
  probabilities: Array<number>(2 ** bits).fill(2 ** -bits),
})
export const laws = {
  uniform8: uniform(8),
  uniform5: uniform(5),
  bell: { name: '2 bits, bell', bits: 2, probabilities: [0.1, 0.4, 0.4, 0.1] },
  peaks: { name: '3 bits, two peaks', bits: 3, probabilities: [0.3, 0.05, 0.1, 0.05, 0.02, 0.08, 0.1, 0.3] },
  rows: { ...uniform(3), name: '3 bits, rows that wander', wander: 0.1 },
} as const satisfies Record<string, Law>

const bitsOf = (probabilities: readonly number[]): number =>
  probabilities.reduce((sum, p) => (p === 0 ? sum : sum - p * Math.log2(p)), 0)

/** Of images that are `side` pixels high and wide. */
export function entropy(law: Law, side: number): number {
  const first = bitsOf(law.probabilities)
  if (law.wander === undefined) return first
  const next = law.probabilities.reduce((sum, p, level) => sum + p * bitsOf(after(law, level)), 0)
  return (first + (side - 1) * next) / side
}

/** Probabilities of a pixel beside one of this level. */
function after({ probabilities, wander }: Law, left: number): readonly number[] {
  if (wander === undefined) return probabilities
  const ways = left === 0 || left === probabilities.length - 1 ? 1 : 2
  return probabilities.map((_, level) => [1 - ways * wander, wander][Math.abs(level - left)] ?? 0)
}

/** Images of a law, and what each costs under it. */
export interface Sample {
  readonly images: Images
  readonly truth: Float64Array
}

export function draw(law: Law, count: number, side: number, seed: number): Sample {
  const [next, dims] = [random(seed), side * side]
  const [data, truth] = [new Uint8Array(count * dims), new Float64Array(count)]
  for (let at = 0, level = 0; at < data.length; at++) {
    const probabilities = at % side === 0 ? law.probabilities : after(law, level)
    let rest = next() - probabilities[(level = 0)]!
    while (rest >= 0 && level + 1 < probabilities.length) rest -= probabilities[++level]!
    data[at] = level << (8 - law.bits)
    truth[Math.floor(at / dims)]! -= Math.log2(probabilities[level]!) / dims
  }
  return { images: { data, count, height: side, width: side, channels: 1 }, truth }
}

/**
 * A new Glow that has seen images of a law: its couplings are the identity and its priors standard normal, so that all it does is
 * to take each pixel's mean away and to divide by its standard deviation.
 */
export async function standardizing(law: Law, side: number): Promise<FlowModel> {
  const options = { coupling: 'additive', permutation: 'reverse', learnTop: false, seed: 1 } as const
  const model = await createGlow({
    ...options,
    imageSize: side,
    channels: 1,
    levels: 1,
    depth: 1,
    hidden: 4,
    bits: law.bits,
    device: 'cpu',
  })
  await model.initialize(draw(law, 256, side, 1).images)
  return model
}

/** What such a model must find, in closed form: the bound of one draw, and the probability that infinitely many come to. */
export function standardized({ bits, probabilities }: Law): { readonly bound: number; readonly exact: number } {
  const mean = probabilities.reduce((sum, p, level) => sum + p * (level + 0.5), 0)
  const variance = probabilities.reduce((sum, p, level) => sum + p * (level + 0.5 - mean) ** 2, 1 / 12)
  const [width, deviation] = [2 ** -bits, Math.sqrt(variance)]
  // Densities of values whose bins are `width` wide; z has variance 1 by construction.
  const bound = bits + Math.log2(deviation * width) + 0.5 * Math.log2(2 * Math.PI * Math.E)
  const exact = probabilities.reduce((sum, p, level) => {
    const [from, to] = [(level - mean) / deviation, (level + 1 - mean) / deviation]
    return sum - p * Math.log2(normalMass(from, to))
  }, 0)
  return { bound, exact }
}

/** Of the standard normal between two values, by Simpson's rule. */
function normalMass(from: number, to: number): number {
  const steps = 200
  const at = (i: number): number => Math.exp(-0.5 * (from + ((to - from) * i) / steps) ** 2)
  const sum = Array.from({ length: steps + 1 }, (_, i) => at(i) * (i === 0 || i === steps ? 1 : i % 2 === 1 ? 4 : 2))
  return (sum.reduce((a, b) => a + b) * (to - from)) / (3 * steps) / Math.sqrt(2 * Math.PI)
}

/** A small Glow that has been trained on images of a law. */
export async function trained(law: Law, side: number, steps: number): Promise<FlowModel> {
  const size = { imageSize: side, channels: 1, levels: 1, depth: 4, hidden: 16 }
  const model = await createGlow({ ...size, bits: law.bits, device: 'cpu', seed: 1 })
  const data = imagesInMemory(draw(law, 20_000, side, 2).images)
  await model.train(data, { steps, batchSize: 64, warmup: 50, schedule: 'cosine', optimizer: { learningRate: 3e-3 } })
    .finished
  return model
}

export interface Score {
  readonly bitsPerDim: number
  /** Over what the images cost under their own law: never below 0 but by chance. */
  readonly excess: number
  /** Standard error of `excess`. */
  readonly standardError: number
}

export async function score(model: FlowModel, { images, truth }: Sample, draws: number): Promise<Score> {
  const bits = await model.bitsPerDim(images, { draws, seed: 3 })
  const mean = (values: Float64Array): number => values.reduce((sum, value) => sum + value, 0) / values.length
  const above = bits.map((value, image) => value - truth[image]!)
  const excess = mean(above)
  const variance = mean(above.map((value) => (value - excess) ** 2))
  return { bitsPerDim: mean(bits), excess, standardError: Math.sqrt(variance / (above.length - 1)) }
}
