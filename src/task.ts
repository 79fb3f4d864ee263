/** Calls into the engine: how many images at once, in which precision, and how to end one. */

import * as native from '#native'

import { fromNative } from './error.js'
import { type Labelled, toCallLabels } from './labels.js'
import * as is from './rules.js'
import type { Rules } from './rules.js'

/**
 * Arithmetic inside Glow's coupling nets; everything else is f32 or f64. `'f32'` is there on every device; what else a
 * device has, its `precisions` say.
 *
 * - `'bf16x3'`: each product from two bf16 halves of its operands, about 16 bits. Inverts to the pixel; for everything.
 * - `'bf16'`: operands of 8 bits, sums in f32. The fastest, for training and likelihoods; decoding does not give the very
 *   pixels back.
 */
export type Precision = 'f32' | 'bf16x3' | 'bf16'
export const precisionRule = is.oneOf('f32', 'bf16x3', 'bf16')

/** What every call takes. */
export interface Call {
  /** The promise rejects with its reason as soon as it aborts; the engine stops between two parts of the work. */
  signal?: AbortSignal
  /**
   * Rejects with `ERR_GLOW_PRECISION_UNSUPPORTED` where the device, or this kind of model, lacks it.
   * @default 'f32'; for likelihoods the model's
   */
  precision?: Precision
  /** Images worked on at once. @default 32, fewer where the images are large */
  batchSize?: number
}
export const callRules: Rules<Call> = { signal: is.abortSignal, precision: precisionRule, batchSize: is.integer(1) }

/** Starts `work`, in `usual` where the call asks for no precision, unless the signal has aborted, and settles with it or with the signal's reason, whichever is first. */
export async function perform<T>(
  { signal, batchSize, labels, precision }: Labelled,
  usual: Precision,
  work: (call: native.Call) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted()
  const call = new native.Call(batchSize, toCallLabels(labels), precision ?? usual)
  const done = engine(() => work(call))
  if (!signal) return done
  let onAbort = (): void => {}
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => {
      call.cancel()
      reject(signal.reason)
    }
    signal.addEventListener('abort', onAbort, { once: true })
  })
  return Promise.race([done, aborted]).finally(() => signal.removeEventListener('abort', onAbort))
}

/** `work`, with the engine's failures as {@link GlowError}s. */
export async function engine<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw fromNative(error)
  }
}
