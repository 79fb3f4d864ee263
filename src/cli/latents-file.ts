/** Latents as NumPy files: `numpy.load` gives an array of float32, one row an image. */

import { readFile } from 'node:fs/promises'

import { dump, type NpyArray, parse } from 'npyjs'

import type { Latents } from '../index.js'
import { fileError } from './failure.js'
import { writeWhole } from './files.js'

export async function saveLatents(file: string, { data, count, dims }: Latents): Promise<void> {
  await writeWhole(file, new Uint8Array(dump(data, [count, dims])))
}

/** What {@link saveLatents} or `numpy.save` wrote; the model knows where its scales lie. */
export async function loadLatents(file: string): Promise<Latents> {
  const bytes = await readFile(file)
  let array: NpyArray
  try {
    array = parse(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer)
  } catch (error) {
    throw fileError(file, `it is no NumPy file (${(error as Error).message})`)
  }
  const { data, dtype, shape, fortranOrder } = array
  const [count, dims, ...more] = shape
  if (
    dtype !== 'f4' ||
    !(data instanceof Float32Array) ||
    fortranOrder ||
    count === undefined ||
    dims === undefined ||
    more.length > 0
  )
    throw fileError(
      file,
      `expected float32 of two dimensions in C order, but it holds ${dtype} of [${shape.join(', ')}]`,
    )
  return { data, count, dims, scales: [] }
}
