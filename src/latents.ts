/** Latents as plain data: their checks, and what is done with them without a model. All arithmetic is the engine's. */

import { randomInt } from 'node:crypto'

import * as native from '#native'

import { type Direction, toValues } from './direction.js'
import { engineSays } from './error.js'
import { checkLength, floats, pick } from './images.js'
import { check, checkOne } from './options.js'
import * as is from './rules.js'
import type { Rule, Rules } from './rules.js'

/** The latents of a batch, one row an image: every scale's part, finest first, flattened. */
export interface Latents {
  /** `count x dims` values. */
  readonly data: Float32Array
  readonly count: number
  /** Length of a row: height x width x channels. */
  readonly dims: number
  /** Where each scale's part lies in a row. */
  readonly scales: readonly LatentScale[]
}
export interface LatentScale {
  readonly offset: number
  readonly shape: readonly [height: number, width: number, channels: number]
}

/** How latents are drawn. */
export interface Draw {
  /**
   * Standard deviation the latents are drawn with, on every scale; below 1 trades variety for likelihood. Images then follow
   * `p ** (1 / temperature ** 2)`, up to a factor, where every log-determinant and every scale of a prior is the same for all images:
   * additive couplings and one level, or split priors that have not learned a scale. Otherwise it is a heuristic, as in the paper.
   * @default 0.7
   */
  temperature?: number
  /** The same seed gives the same latents, in any batch size. @default drawn at random */
  seed?: number
}
export const drawRules: Rules<Draw> = { temperature: is.atLeastZero, seed: is.seed }

export function toDraw({ temperature = 0.7, seed = randomInt(2 ** 48 - 1) }: Draw): Required<Draw> {
  return { temperature, seed }
}

/** The way from one latent to another. */
export interface Interpolation {
  /** Both ends included. @default 8 */
  frames?: number
  /** Straight as in the paper, or on a great circle, where the norm goes evenly from one end's to the other's. @default 'linear' */
  path?: 'linear' | 'spherical'
}
export const interpolationRules: Rules<Interpolation> = {
  frames: is.integer(2),
  path: is.oneOf('linear', 'spherical'),
}

export function toInterpolation({ frames = 8, path = 'linear' }: Interpolation): Required<Interpolation> {
  return { frames, path }
}

/** Latents for the engine. */
export function toRows(what: string, latents: Latents): native.LatentRows {
  const size = is.required(is.integer(1))
  const { data, count, dims } = pick(what, latents, { data: is.required(floats), count: size, dims: size })
  checkLength(what, data, count * dims, `${count} x ${dims}`)
  return { data, count, dims }
}

const isScale = (value: unknown): boolean => {
  const { offset, shape } = (value ?? {}) as Partial<LatentScale>
  return (
    is.integer(0).accepts(offset) && Array.isArray(shape) && shape.length === 3 && shape.every(is.integer(1).accepts)
  )
}
const scalesRule: Rule = is.list('a list of { offset, shape: [height, width, channels] }', isScale)
const indicesRule: Rule = is.list('a list of integers of at least 0', is.integer(0).accepts)

/**
 * Latents moved by `amount` along a direction: plus `amount` times its values. Several directions are added one after the
 * other.
 *
 * @throws `ERR_GLOW_SHAPE` for a direction of another length or values that are not finite.
 */
export function addDirection(latents: Latents, direction: Direction, amount: number): Latents {
  const [rows, values] = [toRows('latents', latents), toValues('direction', direction)]
  checkOne('amount', amount, is.finite)
  return { ...engineSays(() => native.addDirection(rows, values, amount)), scales: latents.scales }
}

/**
 * Latents whose scales of these indices (0 the finest) are drawn anew: keep the coarse, vary the fine. What becomes of a
 * row's scale depends on the seed and the row's index, not on which other scales are drawn.
 *
 * @throws `ERR_GLOW_OPTION` for an index that is out of range or there twice.
 */
export function resample(latents: Latents, options: { scales: readonly number[] } & Draw): Latents {
  const rows = toRows('latents', latents)
  checkOne('latents.scales', latents.scales, scalesRule)
  check(options, { scales: is.required(indicesRule), ...drawRules })
  const { temperature, seed } = toDraw(options)
  const layout = latents.scales.map(({ offset, shape }) => ({ offset, shape }))
  const drawn = engineSays(() => native.resample(rows, layout, [...options.scales], temperature, seed))
  return { ...drawn, scales: latents.scales }
}

/**
 * For each pair of rows, `frames` (8 by default) from the one to the other, both included.
 *
 * @throws `ERR_GLOW_SHAPE` where the two differ in count or dims.
 */
export function interpolateLatents(from: Latents, to: Latents, options: Interpolation = {}): Latents {
  const ends = [toRows('from', from), toRows('to', to)] as const
  check(options, interpolationRules)
  const { frames, path } = toInterpolation(options)
  return { ...engineSays(() => native.interpolateLatents(...ends, frames, path)), scales: from.scales }
}
