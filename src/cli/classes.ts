/** The classes of a model that is to be made. */

import type { ModelOptions } from '../config.js'
import type { AnyDataset } from '../index.js'
import { usageError } from './failure.js'
import type { Settings } from './settings.js'

/** The options of a model of these images, with `auto` as the number of classes of the data that it is made for. */
export function modelOptions(
  chosen: NonNullable<Settings['model']>,
  data: Pick<AnyDataset, 'height' | 'width' | 'channels' | 'classes'>,
): ModelOptions {
  const { height, width, channels, classes } = data
  const options = { imageSize: [height, width], channels, ...chosen }
  if (!('classes' in chosen) || chosen.classes !== 'auto') return options as ModelOptions
  if (!classes) throw usageError('Expected data with classes for --classes auto but those of --data have none')
  return { ...options, classes: classes.length } as ModelOptions
}
