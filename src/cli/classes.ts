/** The classes of a model that is to be made. */

import type { Dataset, GlowOptions } from '../index.js'
import { usageError } from './failure.js'
import type { Settings } from './settings.js'

/** The options of a model, with `auto` as the number of classes of the data that it is made for. */
export function modelOptions(
  { classes, ...chosen }: NonNullable<Settings['model']>,
  data: Pick<Dataset, 'classes'>,
): Partial<GlowOptions> {
  if (classes !== 'auto') return { ...chosen, ...(classes !== undefined && { classes }) }
  if (!data.classes) throw usageError('Expected data with classes for --classes auto but those of --data have none')
  return { ...chosen, classes: data.classes.length }
}
