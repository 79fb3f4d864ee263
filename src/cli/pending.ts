/** Calls that the API is about to have, as they will be typed there. This file goes when it has them. */

import * as api from '../index.js'
import type { Dataset, DatasetOptions, Images, PathLike } from '../index.js'

interface Pending {
  imageFolder(folder: PathLike, options?: DatasetOptions): Promise<Dataset>
  cifar10(folder: PathLike, part: 'train' | 'test', options?: DatasetOptions): Promise<Dataset>
  celebA(files: { images: PathLike; attributes: PathLike }, options?: DatasetOptions): Promise<Dataset>
  readImages(files: readonly PathLike[], options?: DatasetOptions): Promise<Images>
}

export const pending = api as unknown as Pending
