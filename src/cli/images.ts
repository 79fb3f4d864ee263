/** Images that commands read, and pictures that they write. */

import { mkdir, readdir, stat } from 'node:fs/promises'
import { extname, join } from 'node:path'

import { Option } from '@commander-js/extra-typings'

import {
  type FlowModel,
  type GridOptions,
  type Images,
  type LabelledImages,
  readImages,
  writePngGrid,
} from '../index.js'
import { openForModel } from './data-source.js'
import { fileError, usageError } from './failure.js'
import type { DataSettings } from './settings.js'

const readable = ['.png', '.jpg', '.jpeg', '.webp']

/** The images of `--images`, or the first `count` of `--data`. Their channels become the model's where that loses nothing. */
export async function inputImages(
  model: FlowModel,
  { images, count = 16 }: { images?: readonly string[] | undefined; count?: number | undefined },
  data: DataSettings = {},
): Promise<LabelledImages> {
  if (images && data.path !== undefined) throw usageError('Expected --images or --data but received both')
  if (images) return readFiles(model, images, data)
  if (data.path === undefined)
    throw usageError('Expected --images <file or folder> or --data <path> to say where the images are')
  const dataset = await openForModel(model, data, 'test')
  return dataset.batch([...Array(Math.min(count, dataset.length)).keys()])
}

/** Image files, each a path of its own or all that are in a folder, by name. */
export async function readFiles(model: FlowModel, paths: readonly string[], data: DataSettings = {}): Promise<Images> {
  const files = (await Promise.all(paths.map(filesOf))).flat()
  const {
    path: _,
    format: __,
    part: ___,
    attributeFile: ____,
    evalPath: _____,
    evalFraction: ______,
    ...options
  } = data
  return readImages(files, { channels: model.config.channels as 1 | 3 | 4, ...options })
}

async function filesOf(path: string): Promise<string[]> {
  if (!(await stat(path)).isDirectory()) return [path]
  const names = (await readdir(path)).filter((name) => readable.includes(extname(name).toLowerCase())).toSorted()
  if (names.length === 0) throw fileError(path, `there are no ${readable.join(', ')} files in it`)
  return names.map((name) => join(path, name))
}

/** Where {@link writeImages} writes. */
export const picturesOut = (usual: string) =>
  new Option(
    '--out <path>',
    'a .png for one picture with all, any other name for a folder with a file for each',
  ).default(usual)

/** A name that ends in `.png` becomes one picture with all images; any other a folder with a picture for each. */
export async function writeImages(out: string, images: Images, grid: GridOptions = {}): Promise<string[]> {
  if (extname(out).toLowerCase() === '.png') {
    await writePngGrid(out, images, grid)
    return [out]
  }
  await mkdir(out, { recursive: true })
  const { count, height, width, channels, data } = images
  const dims = height * width * channels
  const digits = String(count - 1).length
  const files = Array.from({ length: count }, (_, index) => join(out, `${String(index).padStart(digits, '0')}.png`))
  await Promise.all(
    files.map((file, index) =>
      writePngGrid(file, { ...images, count: 1, data: data.subarray(index * dims, (index + 1) * dims) }, { gap: 0 }),
    ),
  )
  return files
}

/** `1 image`, `2 images`. */
export const countText = (count: number): string => `${count} image${count === 1 ? '' : 's'}`
