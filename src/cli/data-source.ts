/** Opens the images that a path holds, and says what was found. */

import type { Dirent } from 'node:fs'
import { open, readdir, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { createGunzip } from 'node:zlib'
import { Readable } from 'node:stream'

import { celebA, cifar10, type Dataset, type DatasetOptions, type FlowModel, idxFiles, imageFolder } from '../index.js'
import { fileError, usageError } from './failure.js'
import { note } from './command.js'
import type { DataSettings, Format } from './settings.js'

type Part = 'train' | 'test'

/** The images of `--data`; people are told what was found. `part` is the one to take, where the settings do not say, of two. */
export async function openData(settings: DataSettings, part: Part): Promise<Dataset> {
  const { path, format, part: wanted = part, attributeFile, evalPath: _, evalFraction: __, ...options } = settings
  if (path === undefined) throw usageError('Expected --data <path> to say where the images are')
  const { data, found } = await openers[format ?? (await detect(path))](resolve(path), wanted, options, attributeFile)
  const { length, height, width, channels, classes, attributes } = data
  const more = [classes && `of ${classes.length} classes`, attributes && `with ${attributes.length} attributes`]
  note([`${found}: ${length} images of ${height}x${width}x${channels}`, ...more.filter(Boolean)].join(' '))
  return data
}

/** The images to train on, and those to score, where the settings say which. */
export async function openParts(settings: DataSettings): Promise<Parts> {
  const { evalPath, evalFraction } = settings
  if (evalPath !== undefined && evalFraction !== undefined)
    throw usageError('Expected --eval-data or --eval-fraction but received both')
  const all = await openData(settings, 'train')
  if (evalFraction !== undefined) {
    const [train, heldOut] = all.split([1 - evalFraction, evalFraction])
    return { train, heldOut }
  }
  if (evalPath === undefined) return { train: all }
  const { part: _, ...rest } = settings
  return { train: all, heldOut: await openData({ ...rest, path: evalPath }, 'test') }
}

interface Parts {
  readonly train: Dataset
  readonly heldOut?: Dataset
}

/** As {@link openParts}; where the settings do not say, held out is the test part of data that have one, else a twentieth. */
export async function openBoth(settings: DataSettings): Promise<Required<Parts>> {
  const { path, evalPath, evalFraction } = settings
  const said = evalPath ?? evalFraction
  const part = said === undefined && (await hasTestPart(settings)) ? { evalPath: path } : { evalFraction: 0.05 }
  const { train, heldOut } = await openParts(said === undefined ? { ...settings, ...part } : settings)
  if (!heldOut) throw usageError('Expected --eval-data or --eval-fraction to say what is to be scored')
  return { train, heldOut }
}

async function hasTestPart({ path, format, part }: DataSettings): Promise<boolean> {
  if (path === undefined || part !== undefined) return false
  const found = format ?? (await detect(path))
  if (found !== 'idx' || !(await stat(path)).isDirectory()) return found === 'cifar10'
  return (await entries(path)).some(({ name }) => idxImages.test(name) && isTest.test(name))
}

/** As {@link openData}, grey images as colour where the model's are. */
export const openForModel = (model: FlowModel, settings: DataSettings, part: Part): Promise<Dataset> =>
  openData({ channels: model.config.channels as 1 | 3 | 4, ...settings }, part)

type Open = (
  path: string,
  part: Part,
  options: DatasetOptions,
  attributes?: string,
) => Promise<{ data: Dataset; found: string }>
const openers: Readonly<Record<Format, Open>> = {
  async idx(path, part, options) {
    const images = (await stat(path)).isDirectory() ? await idxPart(path, part) : path
    const labels = await labelsBeside(images)
    const data = await idxFiles({ images, ...(labels && { labels }) }, options)
    return { data, found: `IDX file ${images}${labels ? ` with ${basename(labels)}` : ''}` }
  },
  async cifar10(path, part, options) {
    return { data: await cifar10(path, part, options), found: `CIFAR-10 in ${path}, ${part} part` }
  },
  async folder(path, _, options) {
    return { data: await imageFolder(path, options), found: `Image files in ${path}` }
  },
  async celeba(path, _, options, given) {
    const attributes = given ?? (await attributeList(path))
    if (attributes === undefined)
      throw fileError(path, 'there is no list_attr_* file in it or beside it: name it with --attribute-file')
    const inner = (await readdir(path, { withFileTypes: true })).find(
      (entry) => entry.isDirectory() && /img|images/.test(entry.name),
    )
    const images = inner ? join(path, inner.name) : path
    return {
      data: await celebA({ images, attributes }, options),
      found: `CelebA images in ${images} with ${attributes}`,
    }
  },
}

/** What a path holds, by the names and first bytes of its files. */
async function detect(path: string): Promise<Format> {
  if (!(await stat(path)).isDirectory()) {
    if (await isIdx(path)) return 'idx'
    throw fileError(path, 'it is neither an IDX file of images nor a folder')
  }
  const names = (await entries(path)).map(({ name }) => name)
  if (names.some((name) => idxImages.test(name))) return 'idx'
  if (names.some((name) => /^(data_batch_1|test_batch)\.|^cifar-10-batches-bin$/.test(name))) return 'cifar10'
  if ((await attributeList(path)) !== undefined) return 'celeba'
  return 'folder'
}

const idxImages = /images[-.]idx3-ubyte(\.gz)?$/
const isTest = /^(t10k|test)/

/** IDX files of three sizes begin with 0, 0, 8, 3, gzipped or not. */
async function isIdx(path: string): Promise<boolean> {
  const file = await open(path)
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(512), 0, 512, 0)
    const start = buffer.subarray(0, bytesRead)
    const magic = start[0] === 0x1f && start[1] === 0x8b ? await firstUnzipped(start) : start
    return magic.readUInt32BE(0) === 0x803
  } catch (error) {
    if (error instanceof RangeError) return false
    throw error
  } finally {
    await file.close()
  }
}

async function firstUnzipped(start: Buffer): Promise<Buffer> {
  const unzip = Readable.from([start]).pipe(createGunzip())
  // What was read ends too early for gzip, but the first bytes come before it finds out.
  unzip.on('error', () => {})
  for await (const chunk of unzip) return chunk as Buffer
  return Buffer.alloc(0)
}

async function idxPart(folder: string, part: Part): Promise<string> {
  const files = (await entries(folder)).map(({ name }) => name).filter((name) => idxImages.test(name))
  const ofPart = part === 'test' ? isTest : /^train/
  const chosen = files.find((name) => ofPart.test(name)) ?? (files.length === 1 ? files[0] : undefined)
  if (chosen === undefined)
    throw fileError(folder, `it holds no *images-idx3-ubyte of the ${part} part: say --part, or name the file`)
  return join(folder, chosen)
}

async function labelsBeside(images: string): Promise<string | undefined> {
  const name = basename(images).replace('images', 'labels').replace('idx3', 'idx1')
  if (name === basename(images)) return undefined
  const wanted = [name, name.endsWith('.gz') ? name.slice(0, -3) : `${name}.gz`]
  const found = (await entries(dirname(images))).find((entry) => wanted.includes(entry.name))
  return found && join(dirname(images), found.name)
}

async function attributeList(path: string): Promise<string | undefined> {
  for (const folder of [path, dirname(path)]) {
    // oxlint-disable-next-line no-await-in-loop -- The second folder is looked at only if the first has none.
    const found = (await entries(folder)).find(({ name }) => attributeFile.test(name))
    if (found) return join(folder, found.name)
  }
  return undefined
}

/** As CelebA and CelebA-HQ call it. */
const attributeFile = /^list_attr_.*\.(txt|csv)$|attribute-anno\.txt$/i

const entries = (folder: string): Promise<Dirent[]> => readdir(folder, { withFileTypes: true })
