/** Calls that the API is about to have, as they will be typed there. This file goes when it has them. */

import * as api from '../index.js'
import type { Dataset, DatasetOptions, Direction, FlowModel, Images, PathLike } from '../index.js'

interface Pending {
  imageFolder(folder: PathLike, options?: DatasetOptions): Promise<Dataset>
  cifar10(folder: PathLike, part: 'train' | 'test', options?: DatasetOptions): Promise<Dataset>
  celebA(files: { images: PathLike; attributes: PathLike }, options?: DatasetOptions): Promise<Dataset>
  readImages(files: readonly PathLike[], options?: DatasetOptions): Promise<Images>
  saveDirections(file: PathLike, directions: Readonly<Record<string, Direction>>): Promise<void>
  loadDirections(file: PathLike): Promise<Record<string, Direction>>
}

export const pending = api as unknown as Pending
export type PendingModel = FlowModel & {
  directions(
    data: Dataset,
    options?: { batchSize?: number; only?: readonly string[] },
  ): Promise<Record<string, Direction>>
}
