/** The classes of images: of data, and of what a class-conditional model is asked for. */

import { GlowError } from './error.js'
import { show } from './options.js'
import * as is from './rules.js'
import type { Rule, Rules } from './rules.js'
import type { Call } from './task.js'

/** What a call takes that a class-conditional model has to know the classes for. */
export interface Labelled extends Call {
  /** One class for all images, or one each. Required by a class-conditional model, refused by any other: `ERR_GLOW_LABELS`. */
  labels?: number | ArrayLike<number>
}

const rule: Rule = {
  expected: 'a class or a list of classes',
  accepts: (value) => typeof value === 'number' || (typeof value === 'object' && value !== null && 'length' in value),
}
export const labelRules: Omit<Rules<Labelled>, keyof Call> = { labels: rule }

/** As the engine takes them. */
export function toCallLabels(given: number | ArrayLike<number> | undefined): number | Uint32Array | undefined {
  if (given === undefined || typeof given === 'object') return given && toLabels(given)
  if (is.integer(0).accepts(given)) return given
  throw labelsError('an integer of at least 0', show(given))
}

/** Labels for the engine, which knows how large they may be. */
export function toLabels(labels: ArrayLike<number>): Uint32Array {
  const values = Array.from(labels)
  const wrong = values.findIndex((label) => !is.integer(0).accepts(label))
  if (wrong === -1) return Uint32Array.from(values)
  throw labelsError('integers of at least 0', `${show(values[wrong])} for image ${wrong}`)
}

function labelsError(expected: string, received: string): GlowError {
  const message = `Expected ${expected} for labels but received ${received}`
  return GlowError.of('ERR_GLOW_LABELS', message, { expected, received })
}
