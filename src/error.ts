/** The one place where failures become {@link GlowError}s: those found here and those that the engine reports. */

import { inspect } from 'node:util'

/** What went wrong; stable across versions, unlike the sentences. */
export type GlowErrorCode =
  /** An option that is unknown or out of range; `option`, `expected`, `received`, and `problems` with every one of them. */
  | 'ERR_GLOW_OPTION'
  /** Images, latents or noise of a size that does not fit; `what`, `expected`, `received`. */
  | 'ERR_GLOW_SHAPE'
  /** No such device, or one that does not start; `device`, `reason`. */
  | 'ERR_GLOW_DEVICE_UNAVAILABLE'
  /** The device cannot compute in it; `precision`, `precisions`. */
  | 'ERR_GLOW_PRECISION_UNSUPPORTED'
  /** The work does not fit, found before anything was allocated; `what`, `needed`, `available`, in bytes. */
  | 'ERR_GLOW_OUT_OF_MEMORY'
  /** A loss, gradient, latent or pixel that is not a number; `what`, `step`, `layer`. */
  | 'ERR_GLOW_NOT_FINITE'
  /** A 1x1 convolution without an inverse; `layer`. */
  | 'ERR_GLOW_SINGULAR'
  /** A file of another format or version, damaged or hostile, or of a format that cannot hold what it should; `path`, `reason`. */
  | 'ERR_GLOW_FILE'
  /** The system refused: missing, no permission, no space; `path`, `errno`. */
  | 'ERR_GLOW_IO'
  /** Data that cannot be used for what was asked; `what`, `index`, `reason`, and `file` where it is a picture's. */
  | 'ERR_GLOW_DATA'
  /** Labels missing, refused or out of range; `expected`, `received`. */
  | 'ERR_GLOW_LABELS'
  /** Another run uses the folder; `path`, `pid`. */
  | 'ERR_GLOW_LOCKED'
  /** The model has not seen data yet: call `initialize` or `train` first. */
  | 'ERR_GLOW_NOT_INITIALIZED'
  /** A file of weights that do not fit; `path`, `reason`, and `report`, an `ImportReport`, where an import misses some. */
  | 'ERR_GLOW_WEIGHTS'
  /** A call that changes a model in training. */
  | 'ERR_GLOW_BUSY'
  /** The model has been disposed of. */
  | 'ERR_GLOW_DISPOSED'
  /** A fault of this package: please report it. */
  | 'ERR_GLOW_INTERNAL'

/** One option that cannot be used. */
export interface OptionProblem {
  /** Its path, such as `optimizer.learningRate`. */
  readonly option: string
  readonly expected: string
  /** What came, as text. */
  readonly received: string
  /** Its sentence. */
  readonly message: string
}

const brand = Symbol.for('glowflow.GlowError')

/** Every failure of this package: a stable {@link code}, a sentence for people, and {@link details} for programs. */
export class GlowError extends Error {
  override readonly name = 'GlowError'
  readonly code: GlowErrorCode
  /** What the sentence says, as fields; {@link GlowErrorCode} names them. */
  readonly details: Readonly<Record<string, unknown>>

  private constructor(
    code: GlowErrorCode,
    message: string,
    details: Readonly<Record<string, unknown>>,
    options?: ErrorOptions,
  ) {
    super(message, options)
    this.code = code
    this.details = details
    Object.defineProperty(this, brand, { value: true })
  }

  /** @internal */
  static of(
    code: GlowErrorCode,
    message: string,
    details: Readonly<Record<string, unknown>> = {},
    options?: ErrorOptions,
  ): GlowError {
    return new GlowError(code, message, details, options)
  }

  /** Holds across copies of the package, where `instanceof` does not. */
  static isInstance(value: unknown): value is GlowError {
    return typeof value === 'object' && value !== null && brand in value
  }
}

/** One error for all the options that cannot be used; its details are those of the first, and `problems` are all. */
export function optionError(problems: readonly [OptionProblem, ...OptionProblem[]]): GlowError {
  const { option, expected, received } = problems[0]
  const message = problems.map((problem) => problem.message).join('. ')
  return GlowError.of('ERR_GLOW_OPTION', message, { option, expected, received, problems })
}

/** An array whose length does not agree with the sizes beside it, or the model. */
export function shapeError(what: string, expected: string, received: string): GlowError {
  return GlowError.of('ERR_GLOW_SHAPE', `Expected ${what} of ${expected} but received ${received}`, {
    what,
    expected,
    received,
  })
}

/** What programs' own code has thrown, by its text, while that is on its way through the engine, which knows only text. */
const sent = new Map<string, unknown>()
/** More are not on their way: what no call or run brings back is forgotten. */
const MOST_SENT = 64

/** The text of a failure for the engine; the error that comes back of it has `error` as its cause. */
export function sendFailure(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : inspect(error)
  sent.delete(text)
  sent.set(text, error)
  const [oldest] = sent.keys()
  if (sent.size > MOST_SENT && oldest !== undefined) sent.delete(oldest)
  return text
}

/** The binding puts `{ code, message, details }` as JSON into its errors' messages: only that survives a promise. */
export function fromNative(error: unknown): unknown {
  if (!(error instanceof Error) || GlowError.isInstance(error)) return error
  try {
    const { code, message, details } = JSON.parse(error.message)
    if (code !== 'ERR_GLOW_DATA' || !sent.has(details.reason)) return GlowError.of(code, message, details)
    const cause = sent.get(details.reason)
    sent.delete(details.reason)
    return GlowError.of(code, message, details, { cause })
  } catch {
    return GlowError.of('ERR_GLOW_INTERNAL', `Internal error, please report it: ${error.message}`, {
      message: error.message,
    })
  }
}

/** `call`, with the engine's failures as {@link GlowError}s. */
export function engineSays<T>(call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw fromNative(error)
  }
}
