/** Datasets that programs write themselves. */

import * as native from '#native'

import { type Dataset, EngineDataset, toLabels } from './data.js'
import { engineSays, sendFailure } from './error.js'
import { type FloatImages, type Images, pick, toPixels } from './images.js'
import * as is from './rules.js'

/** Where the images of {@link customDataset} come from. */
export interface CustomSource<I extends Images | FloatImages = Images> {
  /** Names the data, so that a resumed run can tell that they are the same. */
  id: string
  length: number
  height: number
  width: number
  channels: number
  /** Class names, in label order. With them every batch has labels, without them none. */
  classes?: readonly string[]
  /**
   * The images of these indices, in this order, always the same. May be called again before it has settled. It is left waiting
   * for as long as it likes, unless the run or call that wants it is stopped.
   */
  batch(indices: readonly number[]): Promise<I & { labels?: ArrayLike<number> }>
}

/**
 * A dataset of a source of one's own. Training reads ahead and evaluation waits on threads of their own: the event loop turns,
 * and {@link CustomSource.batch} is called in it. What it throws, and a batch that is not what was asked for, ends the run or
 * call with `ERR_GLOW_DATA`; the error's `cause` is what was thrown.
 *
 * @throws `ERR_GLOW_OPTION` for a source that cannot be used.
 */
export function customDataset<I extends Images | FloatImages = Images>(source: CustomSource<I>): Dataset<I> {
  const size = is.required(is.integer(1))
  const { id, length, height, width, channels, classes } = pick('source', source, {
    id: is.required(is.name),
    length: size,
    height: size,
    width: size,
    channels: size,
    classes: is.list('a list of names', is.name.accepts),
    batch: is.required(is.callable),
  })
  const sizes = { id, length, height, width, channels, ...(classes && { classes: [...classes] }) }
  return new EngineDataset(engineSays(() => native.customDataset(sizes, (request) => void answer(source, request))))
}

async function answer(source: CustomSource<Images | FloatImages>, request: native.BatchRequest): Promise<void> {
  try {
    const batch = await source.batch(request.indices)
    const images = toPixels('images', batch)
    request.resolve(images, batch.labels && toLabels(batch.labels))
  } catch (error) {
    request.reject(sendFailure(error))
  }
}
