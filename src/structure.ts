/** What a model is made of, known before it is made. */

import * as native from '#native'

import { type ModelOptions, toKnownConfig } from './config.js'
import { engineSays } from './error.js'

/** A layer of a model. */
export interface LayerInfo {
  /** Where it is in the model, as in its files and in errors: `levels.0.steps.3.coupling`. */
  readonly path: string
  /** Of what it gives on the way from image to latent. */
  readonly shape: readonly [height: number, width: number, channels: number]
  /** Trained numbers. */
  readonly parameters: number
}

/**
 * The layers of a model, in the order in which an image meets them.
 *
 * @throws `ERR_GLOW_OPTION` for every option that cannot be used.
 */
export function listLayers(options: ModelOptions): readonly LayerInfo[] {
  const config = toKnownConfig(options)
  return engineSays(() => native.layers(config))
}
