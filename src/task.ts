/** Calls into the engine: how many images at once, in which precision, and how to end one. */

import * as native from '#native'

import { fromNative, GlowError } from './error.js'
import { type Labelled, toCallLabels } from './labels.js'
import * as is from './rules.js'
import type { Rules } from './rules.js'

/**
 * Arithmetic inside the coupling nets; everything else is f32 or f64. `'f32'` is there on every device; what else a device
 * has, its `precisions` say.
 */
export type Precision = 'f32' | 'bf16x3' | 'bf16'
export const precisionRule = is.oneOf('f32', 'bf16x3', 'bf16')

/** What every call takes. */
export interface Call {
  /** The promise rejects with its reason as soon as it aborts; the engine stops between two parts of the work. */
  signal?: AbortSignal
  /** Rejects with `ERR_GLOW_PRECISION_UNSUPPORTED` where the device lacks it. @default 'f32' */
  precision?: Precision
  /** Images worked on at once. @default 32, fewer where the images are large */
  batchSize?: number
}
export const callRules: Rules<Call> = { signal: is.abortSignal, precision: precisionRule, batchSize: is.integer(1) }

/** Starts `work`, unless the signal has aborted, and settles with it or with the signal's reason, whichever is first. */
export async function perform<T>(
  { signal, batchSize, labels }: Labelled,
  work: (call: native.Call) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted()
  const call = new native.Call(batchSize, toCallLabels(labels))
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

/** Refuses a precision that the device does not have. */
export function checkPrecision(wanted: Precision | undefined, precisions: readonly Precision[]): void {
  if (wanted === undefined || precisions.includes(wanted)) return
  const message = `Expected one of ${precisions.join(', ')} for precision on this device but received ${wanted}`
  throw GlowError.of('ERR_GLOW_PRECISION_UNSUPPORTED', message, { precision: wanted, precisions })
}
