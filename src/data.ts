/** Where images come from. */

import * as native from '#native'

import { GlowError, engineSays } from './error.js'
import { type Images, toBytes } from './images.js'
import { check, checkOne, type PathLike, show, toPath } from './options.js'
import * as is from './rules.js'
import type { Rule, Rules } from './rules.js'
import { engine } from './task.js'

/** How stored images become those of a dataset. */
export interface DatasetOptions {
  /** Pixels of background added on every side: MNIST's 28 become 32 with 2. @default 0 */
  pad?: number
  /** Behind transparent pixels and padding. @default black */
  background?: readonly [red: number, green: number, blue: number]
  /** Grey becomes colour and a missing alpha opaque, but colour never becomes grey. @default as stored */
  channels?: 1 | 3 | 4
}
export const datasetRules: Rules<DatasetOptions> = {
  pad: is.integer(0),
  background: is.color,
  channels: {
    expected: '1, 3 or 4',
    accepts: (value) => [1, 3, 4].includes(value as number),
    schema: { enum: [1, 3, 4] },
  },
}

/** Images with what the data say of them. */
export interface LabelledImages extends Images {
  /** Class of each image, where the data have labels. */
  readonly labels?: Uint32Array
}

/** Images that can be read in any order. */
export interface Dataset {
  readonly length: number
  readonly height: number
  readonly width: number
  readonly channels: number
  /** Class names, in label order, where the data have labels. */
  readonly classes?: readonly string[]
  /**
   * The images of these indices, in this order.
   *
   * @throws `ERR_GLOW_OPTION` for an index that is not below `length`.
   */
  batch(indices: readonly number[]): Promise<LabelledImages>
  /**
   * Parts that share no image, drawn by `seed` (0 by default): `const [train, test] = data.split([0.9, 0.1])`.
   *
   * @throws `ERR_GLOW_OPTION` where a fraction is not positive, their sum is above 1, or a part would be empty.
   */
  split<const F extends readonly number[]>(fractions: F, options?: { seed?: number }): { [I in keyof F]: Dataset }
}

class EngineDataset implements Dataset {
  readonly length: number
  readonly height: number
  readonly width: number
  readonly channels: number
  declare readonly classes?: readonly string[]
  readonly #native: native.Dataset

  constructor(data: native.Dataset) {
    this.length = data.length
    this.height = data.height
    this.width = data.width
    this.channels = data.channels
    if (data.classes) this.classes = data.classes
    this.#native = data
  }

  async batch(indices: readonly number[]): Promise<LabelledImages> {
    checkOne('indices', indices, is.list('a list of integers of at least 0', is.integer(0).accepts))
    const { images, labels } = await engine(() => this.#native.batch([...indices]))
    return labels ? { ...images, labels } : images
  }

  split<const F extends readonly number[]>(fractions: F, options: { seed?: number } = {}): { [I in keyof F]: Dataset } {
    check(options, { seed: is.seed })
    checkOne('fractions', fractions, is.list('a list of numbers above 0', is.positive.accepts))
    const parts = engineSays(() => this.#native.split([...fractions], options.seed ?? 0))
    return parts.map((part) => new EngineDataset(part)) as unknown as { [I in keyof F]: Dataset }
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
export function toDataset(what: string, data: Dataset | Images): native.Dataset {
  const known = EngineDataset.nativeOf(data)
  if (known) return known
  if (typeof data === 'object' && data !== null && 'data' in data) return inMemory(what, data)
  checkOne(what, data, { ...datasetRule, expected: 'a Dataset or Images' })
  throw new TypeError('unreachable')
}

function inMemory(what: string, images: Images, labels?: ArrayLike<number>): native.Dataset {
  const pixels = toBytes(what, images)
  return engineSays(() => native.imagesInMemory(pixels, labels && toLabels(labels)))
}

function toLabels(labels: ArrayLike<number>): Uint32Array {
  const values = Array.from(labels)
  const wrong = values.find((label) => !is.integer(0).accepts(label))
  if (wrong === undefined) return Uint32Array.from(values)
  const details = { expected: 'integers of at least 0', received: show(wrong) }
  throw GlowError.of(
    'ERR_GLOW_LABELS',
    `Expected ${details.expected} for labels but received ${details.received}`,
    details,
  )
}

/**
 * MNIST-style IDX files of unsigned bytes, plain or gzipped. They are read whole; the promise resolves once they are.
 *
 * @throws `ERR_GLOW_IO` where the system refuses, `ERR_GLOW_FILE` where a file holds something else or less than its header
 * says, `ERR_GLOW_LABELS` where there is not one label for each image.
 */
export async function idxFiles(
  files: { images: PathLike; labels?: PathLike },
  options: DatasetOptions = {},
): Promise<Dataset> {
  check(files, { images: is.required(is.path), labels: is.path })
  check(options, datasetRules)
  const { images, labels } = files
  const { background, ...rest } = options
  const stored = { ...rest, ...(background && { background: [...background] }) }
  return new EngineDataset(await engine(() => native.idxFiles(toPath(images), labels && toPath(labels), stored)))
}

/** Images that are in memory already. Copies the pixels. */
export function imagesInMemory(images: Images, labels?: ArrayLike<number>): Dataset {
  return new EngineDataset(inMemory('images', images, labels))
}
