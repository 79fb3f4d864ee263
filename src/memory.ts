/** What a training step needs, known before anything is allocated. */

import * as native from '#native'

import { type ModelOptions, toKnownConfig } from './config.js'
import { engineSays } from './error.js'
import { toTrainConfig, type TrainOptions } from './training.js'

export interface MemoryEstimate {
  /** Trained numbers. */
  readonly parameters: number
  /** Bytes with every activation kept. */
  readonly stored: number
  /** Bytes with each flow step's input kept. */
  readonly inputs: number
  /** Bytes with inputs rebuilt: what grows with depth is the weights alone. */
  readonly constant: number
}

/**
 * Bytes of a training step, by how activations are held: weights, gradients, Adam's moments and activations.
 *
 * @throws `ERR_GLOW_OPTION` for every option that cannot be used.
 */
export function estimateMemory(model: ModelOptions, train: TrainOptions = {}): MemoryEstimate {
  const [config, trainConfig] = [toKnownConfig(model), toTrainConfig(train, model.precision ?? 'f32')]
  return engineSays(() => native.estimateMemory(config, trainConfig))
}
