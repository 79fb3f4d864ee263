/** Training runs: what they take, what they say, and how they end. */

import * as native from '#native'

import { type Dataset, datasetRule, toDataset } from './data.js'
import { fromNative, engineSays } from './error.js'
import type { Evaluation } from './model.js'
import { check, checkOne, type PathLike, toPath } from './options.js'
import * as is from './rules.js'
import type { Rule, Rules } from './rules.js'

export interface TrainOptions {
  /** Ends the run when the weights have had this many steps, those of earlier runs included. Without any limit it trains until stopped. */
  steps?: number
  /** Ends the run when the weights have had this many passes over the data, those of earlier runs included. */
  epochs?: number
  /** Ends the run after this many seconds. */
  seconds?: number
  /** @default 64 */
  batchSize?: number
  /** Images from which the actnorms are set, whatever the batch size. @default 256 */
  initImages?: number
  /** Adam, Kingma & Ba 2015, https://arxiv.org/abs/1412.6980. @default 1e-3, [0.9, 0.999], 1e-8 */
  optimizer?: {
    learningRate?: number
    betas?: readonly [number, number]
    epsilon?: number
  }
  /** Of the learning rate after the warm-up; cosine falls to 0 at the run's limit. @default 'constant' */
  schedule?: 'constant' | 'cosine'
  /** Steps over which the learning rate rises from 0. @default 1000 */
  warmup?: number
  /** Largest gradient norm, over all weights together; longer gradients are scaled to it. @default 50 */
  clipNorm?: number
  /**
   * How activations are held: `'stored'` keeps every one; `'inputs'` keeps each step's input and runs its net again;
   * `'constant'` rebuilds the inputs too, so memory does not grow with depth; `'auto'` takes the first that fits.
   * @default 'auto'
   */
  activations?: 'auto' | 'stored' | 'inputs' | 'constant'
  /** Orders the data, draws the dequantization noise. @default 0 */
  seed?: number
  /** Scores held-out data every so many steps: all of it, or its first `limit` images. */
  evaluate?: { data: Dataset; every: number; limit?: number }
  /** Writes a checkpoint every so many steps and at the end, and keeps the newest `keep` (3). */
  checkpoint?: { folder: PathLike; every: number; keep?: number }
  /** Writes a PNG grid of `count` (64) samples of `temperature` (0.7) every so many steps, always from the same latents. */
  sample?: { folder: PathLike; every: number; count?: number; temperature?: number }
  /** Stops between two steps, after writing a checkpoint where they are asked for; `finished` then rejects with `signal.reason`. */
  signal?: AbortSignal
}

const isBeta = (value: unknown): boolean => is.atLeastZero.accepts(value) && (value as number) < 1
const betas: Rule = {
  expected: '[beta1, beta2], each in [0, 1)',
  accepts: (value) => Array.isArray(value) && value.length === 2 && value.every(isBeta),
}
const trainRules: Rules<TrainOptions> = {
  steps: is.integer(1),
  epochs: is.positive,
  seconds: is.positive,
  batchSize: is.integer(1),
  initImages: is.integer(1),
  optimizer: is.nested<NonNullable<TrainOptions['optimizer']>>({
    learningRate: is.positive,
    betas,
    epsilon: is.positive,
  }),
  schedule: is.oneOf('constant', 'cosine'),
  warmup: is.integer(0),
  clipNorm: is.positive,
  activations: is.oneOf('auto', 'stored', 'inputs', 'constant'),
  seed: is.seed,
  evaluate: is.nested<NonNullable<TrainOptions['evaluate']>>({
    data: is.required(datasetRule),
    every: is.required(is.integer(1)),
    limit: is.integer(1),
  }),
  checkpoint: is.nested<NonNullable<TrainOptions['checkpoint']>>({
    folder: is.required(is.path),
    every: is.required(is.integer(1)),
    keep: is.integer(1),
  }),
  sample: is.nested<NonNullable<TrainOptions['sample']>>({
    folder: is.required(is.path),
    every: is.required(is.integer(1)),
    count: is.integer(1),
    temperature: is.atLeastZero,
  }),
  signal: is.abortSignal,
}

export type TrainEvent =
  | { readonly type: 'run-start'; readonly step: number; readonly batchesPerEpoch: number }
  | {
      readonly type: 'step-end'
      readonly step: number
      readonly epoch: number
      /** Bits per dimension, mean over the steps since the last such event. */
      readonly loss: number
      /** Before clipping. */
      readonly gradientNorm: number
      readonly learningRate: number
      readonly imagesPerSecond: number
      /** Largest error of a rebuilt activation; there every 100th step where activations are rebuilt. */
      readonly rebuildError?: number
      /** Steps since the last such event: a slow reader gets fewer events, never a queue of them. */
      readonly merged: number
    }
  | ({ readonly type: 'evaluation-end'; readonly step: number } & Evaluation)
  | { readonly type: 'checkpoint-end'; readonly step: number; readonly path: string }
  | { readonly type: 'sample-end'; readonly step: number; readonly path: string }
  | { readonly type: 'warning'; readonly step: number; readonly code: string; readonly message: string }
  | { readonly type: 'run-end'; readonly summary: TrainSummary }

export interface TrainSummary {
  readonly step: number
  /** Bits per dimension of the last step; NaN where there was none. */
  readonly loss: number
  readonly reason: 'finished' | 'stopped'
  readonly seconds: number
  /** The last checkpoint, where they were asked for. */
  readonly checkpoint?: string
}

/**
 * A run under way or over. Each iterator starts with the next event and always gets the last one; one that is opened after the
 * end gets that one alone. A failure makes the iteration throw the same error that `finished` rejects with. Leaving the loop,
 * throwing in it or being slow in it does nothing to the run.
 */
export interface TrainingRun extends AsyncIterable<TrainEvent> {
  /** Settles when the run is over. Handled inside once iterated: reading the events alone raises no unhandled rejection. */
  readonly finished: Promise<TrainSummary>
  /** Ends after the step under way, with a checkpoint where they are asked for: `finished` resolves with reason `'stopped'`. */
  stop(): Promise<TrainSummary>
  /** Lets the process exit although the run goes on. */
  unref(): void
}

/** Checks the options and starts; `onEnd` is called before `finished` settles. */
export function startTraining(
  model: native.Model,
  data: Dataset,
  options: TrainOptions,
  onEnd: () => void,
): TrainingRun {
  checkOne('data', data, datasetRule)
  return new Run(model, data, options, toTrainConfig(options), onEnd)
}

/** The engine's `TrainConfig` of these options, as JSON, defaults left out. */
export function toTrainConfig(options: TrainOptions): string {
  check(options, trainRules, (usable) => engineSays(() => native.trainProblems(trainJson(usable))))
  return trainJson(options)
}

function trainJson({ signal: _, activations, evaluate, checkpoint, sample, ...rest }: TrainOptions): string {
  return JSON.stringify({
    ...rest,
    activations: activations === 'auto' ? undefined : activations,
    evaluate: evaluate && { every: evaluate.every, limit: evaluate.limit },
    checkpoint: checkpoint && { ...checkpoint, folder: toPath(checkpoint.folder), keep: checkpoint.keep ?? 3 },
    sample: sample && {
      ...sample,
      folder: toPath(sample.folder),
      count: sample.count ?? 64,
      temperature: sample.temperature ?? 0.7,
    },
  })
}

/** JSON has no NaN, which is the loss of a run without a step. */
function toSummary(json: string): TrainSummary {
  const summary = JSON.parse(json)
  return { ...summary, loss: summary.loss ?? Number.NaN }
}

class Run implements TrainingRun {
  readonly finished: Promise<TrainSummary>
  readonly #native: native.Run
  /** The engine's wake-ups do not keep the process alive; this does. */
  readonly #alive: NodeJS.Timeout
  /** Resolves at the next wake-up. */
  #news: Promise<void>
  #tell = (): void => {}

  constructor(
    model: native.Model,
    data: Dataset,
    { evaluate, signal }: TrainOptions,
    config: string,
    onEnd: () => void,
  ) {
    let settle = (): void => {}
    const wake = (): void => {
      settle()
      this.#tell()
      this.#news = this.#nextNews()
    }
    this.#news = this.#nextNews()
    this.#native = engineSays(() =>
      model.train(toDataset('data', data), evaluate && toDataset('evaluate.data', evaluate.data), config, wake),
    )
    this.#alive = setInterval(() => {}, 2 ** 31 - 1)
    const abort = (): void => this.#native.stop()
    signal?.addEventListener('abort', abort, { once: true })
    if (signal?.aborted) abort()

    const over = (): void => {
      settle = () => {}
      clearInterval(this.#alive)
      signal?.removeEventListener('abort', abort)
      onEnd()
    }
    this.finished = new Promise((resolve, reject) => {
      settle = () => {
        try {
          const summary = this.#native.outcome()
          if (summary === null) return
          over()
          if (signal?.aborted) reject(signal.reason)
          else resolve(toSummary(summary))
        } catch (error) {
          over()
          reject(fromNative(error))
        }
      }
    })
  }

  stop(): Promise<TrainSummary> {
    this.#native.stop()
    return this.finished
  }

  unref(): void {
    this.#alive.unref()
  }

  [Symbol.asyncIterator](): AsyncIterator<TrainEvent> {
    this.finished.catch(() => {})
    return this.#read(this.#native.open())
  }

  async *#read(mailbox: native.Mailbox): AsyncGenerator<TrainEvent, void> {
    for (;;) {
      const news = mailbox.next()
      if (news === null) {
        await this.#news
        continue
      }
      const event: TrainEvent | null = JSON.parse(news)
      // At the end: the summary, or what ended the run is thrown.
      yield event ?? { type: 'run-end', summary: await this.finished }
      if (event === null) return
    }
  }

  #nextNews(): Promise<void> {
    return new Promise((resolve) => (this.#tell = resolve))
  }
}
