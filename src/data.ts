/** Where images come from. */

import * as native from '#native'

import { GlowError, engineSays } from './error.js'
import { type FloatImages, type Images, toPixels } from './images.js'
import { check, checkOne, show } from './options.js'
import * as is from './rules.js'
import type { Rule } from './rules.js'
import { engine } from './task.js'

/** What data say of their images. */
export interface Labels {
  /** Class of each image, where the data have labels. */
  readonly labels?: Uint32Array
  /** A row of 0 and 1 for each image, one for each attribute, where the data have them. */
  readonly attributes?: Uint8Array
}

/** 8-bit images with what the data say of them. */
export type LabelledImages = Images & Labels

/**
 * Images that can be read in any order. A model of a `Dataset<FloatImages>` learns the density of continuous values (Kingma &
 * Dhariwal 2018, equation 1) in place of the probability of 8-bit images (equation 2): no noise is added to them.
 */
export interface Dataset<I extends Images | FloatImages = Images> {
  readonly length: number
  readonly height: number
  readonly width: number
  readonly channels: number
  /** Class names, in label order, where the data have labels. */
  readonly classes?: readonly string[]
  /** Names of yes-or-no attributes, such as CelebA's 40, where the data have them. */
  readonly attributes?: readonly string[]
  /** Tells these images, in this order and with these options, from any others. */
  readonly fingerprint: string
  /**
   * The images of these indices, in this order, always the same: a random crop is taken about the centre.
   *
   * @throws `ERR_GLOW_OPTION` for an index that is not below `length`; `ERR_GLOW_DATA` for an image that cannot be used, with
   * its `index` and, where it has one, its `file`.
   */
  batch(indices: readonly number[]): Promise<I & Labels>
  /**
   * Parts that share no image, drawn by `seed` (0 by default): `const [train, test] = data.split([0.9, 0.1])`.
   *
   * @throws `ERR_GLOW_OPTION` where a fraction is not positive, their sum is above 1, or a part would be empty.
   */
  split<const F extends readonly number[]>(fractions: F, options?: { seed?: number }): { [K in keyof F]: Dataset<I> }
}

/** Images of either type. */
export type AnyDataset = Dataset | Dataset<FloatImages>

/** @internal */
export class EngineDataset<I extends Images | FloatImages = Images> implements Dataset<I> {
  readonly length: number
  readonly height: number
  readonly width: number
  readonly channels: number
  declare readonly classes?: readonly string[]
  declare readonly attributes?: readonly string[]
  readonly #native: native.Dataset

  constructor(data: native.Dataset) {
    this.length = data.length
    this.height = data.height
    this.width = data.width
    this.channels = data.channels
    if (data.classes) this.classes = data.classes
    if (data.attributes) this.attributes = data.attributes
    this.#native = data
  }

  get fingerprint(): string {
    return this.#native.fingerprint
  }

  async batch(indices: readonly number[]): Promise<I & Labels> {
    checkOne('indices', indices, is.list('a list of integers of at least 0', is.integer(0).accepts))
    const { images, labels, attributes } = await engine(() => this.#native.batch([...indices]))
    return { ...(images as Images | FloatImages as I), ...(labels && { labels }), ...(attributes && { attributes }) }
  }

  split<const F extends readonly number[]>(
    fractions: F,
    options: { seed?: number } = {},
  ): { [K in keyof F]: Dataset<I> } {
    check(options, { seed: is.seed })
    checkOne('fractions', fractions, is.list('a list of numbers above 0', is.positive.accepts))
    const parts = engineSays(() => this.#native.split([...fractions], options.seed ?? 0))
    return parts.map((part) => new EngineDataset(part)) as unknown as { [K in keyof F]: Dataset<I> }
  }

  static nativeOf(value: unknown): native.Dataset | undefined {
    return typeof value === 'object' && value !== null && #native in value ? value.#native : undefined
  }
}

/** A dataset of this package. */
export const datasetRule: Rule = {
  expected: 'a Dataset',
  accepts: (value) => EngineDataset.nativeOf(value) !== undefined,
}

/** The engine's dataset of one of this package, or of images, which are copied. */
export function toDataset(what: string, data: AnyDataset | Images | FloatImages): native.Dataset {
  const known = EngineDataset.nativeOf(data)
  if (known) return known
  if (typeof data === 'object' && data !== null && 'data' in data) return inMemory(what, data)
  checkOne(what, data, { ...datasetRule, expected: 'a Dataset or Images' })
  throw new TypeError('unreachable')
}

function inMemory(what: string, images: Images | FloatImages, labels?: ArrayLike<number>): native.Dataset {
  const pixels = toPixels(what, images)
  return engineSays(() => native.imagesInMemory(pixels, labels && toLabels(labels)))
}

/** Labels for the engine, which knows how large they may be. */
export function toLabels(labels: ArrayLike<number>): Uint32Array {
  const values = Array.from(labels)
  const wrong = values.findIndex((label) => !is.integer(0).accepts(label))
  if (wrong === -1) return Uint32Array.from(values)
  const details = { expected: 'integers of at least 0', received: `${show(values[wrong])} for image ${wrong}` }
  throw GlowError.of(
    'ERR_GLOW_LABELS',
    `Expected ${details.expected} for labels but received ${details.received}`,
    details,
  )
}

/** Images that are in memory already. Copies the pixels. */
export function imagesInMemory<I extends Images | FloatImages>(images: I, labels?: ArrayLike<number>): Dataset<I> {
  return new EngineDataset(inMemory('images', images, labels))
}
