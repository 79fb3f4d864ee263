/** Training runs: what they take, what they say, and how they end. */

import * as native from '#native'

import { type AnyDataset, datasetRule, toDataset } from './data.js'
import { fromNative, engineSays } from './error.js'
import type { Evaluation } from './model.js'
import { check, checkOne, type PathLike, toPath } from './options.js'
import * as is from './rules.js'
import type { Rule, Rules } from './rules.js'
import type { Precision } from './task.js'

export interface TrainOptions {
  /** Ends the run when the weights have had this many steps, those of earlier runs included. Without any limit it trains until stopped. */
  steps?: number
  /** Ends the run when the weights have had this many passes over the data, those of earlier runs included. */
  epochs?: number
  /** Ends the run after this many seconds of training, those before a resumption included. */
  seconds?: number
  /** Images that are run through the model at once. @default 64 */
  batchSize?: number
  /** Batches whose gradients make one step: 32 batches of 16 step like one of 512, in the memory of 16. @default 1 */
  accumulate?: number
  /** Images from which the actnorms are set, whatever the batch size. @default 256 */
  initImages?: number
  /**
   * Adam or Adamax, Kingma & Ba 2015, https://arxiv.org/abs/1412.6980, with decoupled weight decay, Loshchilov & Hutter 2019,
   * https://arxiv.org/abs/1711.05101. @default adam, 1e-3, [0.9, 0.999], 1e-8, 0
   */
  optimizer?: {
    name?: 'adam' | 'adamax'
    learningRate?: number
    betas?: readonly [number, number]
    epsilon?: number
    /** Each step takes `learningRate * weightDecay` of every weight away. */
    weightDecay?: number
  }
  /** Of the learning rate after the warm-up; cosine falls to 0 at the run's limit. @default 'constant' */
  schedule?: 'constant' | 'cosine'
  /** Steps over which the learning rate rises from 0. @default 1000 */
  warmup?: number
  /** Largest gradient norm, over all weights together; longer gradients are scaled to it. @default 50 */
  clipNorm?: number
  /** A loss or gradient that is not finite never reaches the weights: end the run, or go back to the last checkpoint. @default 'stop' */
  onNotFinite?: 'stop' | 'rollback'
  /**
   * Training images at random: left and right exchanged in every second one, and shifts of up to this part of the size (0.1 in
   * Glow's code) in each direction, the border repeated. @default none
   */
  augment?: { flip?: boolean; shift?: number }
  /**
   * Decay of the moving average of the weights. Evaluation, sampling, every other call and the saved model use it; when the run is
   * over, it is the model. @default none
   */
  ema?: number
  /**
   * How activations are held: `'stored'` keeps every one; `'inputs'` keeps each step's input and runs its net again;
   * `'constant'` rebuilds the inputs too, so memory does not grow with depth; `'auto'` takes the first that fits. Nets in `'bf16'`
   * have no `'constant'`: what they rebuild drifts.
   * @default 'auto'
   */
  activations?: 'auto' | 'stored' | 'inputs' | 'constant'
  /** Orders the data, draws the dequantization noise. @default 0 */
  seed?: number
  /** Scores held-out data every so many steps: all of it, or its first `limit` images. */
  evaluate?: { data: AnyDataset; every: number; limit?: number }
  /**
   * Everything that a run leaves behind: `config.json`, `metrics.jsonl`, TensorBoard events, plots of the loss, and checkpoints and
   * samples with their defaults below. One run at a time uses a folder.
   */
  folder?: PathLike
  /**
   * Writes a checkpoint every so many steps (1000), after a quarter of an hour without one, after each evaluation that is the best so
   * far, and at the end; keeps the newest `keep` (3) and the best. `latest` and `best` in the folder name them.
   * @default in `checkpoints` of the run's folder, none without
   */
  checkpoint?: { folder?: PathLike; every?: number; keep?: number }
  /**
   * Writes a PNG grid of `count` (64) samples of `temperature` (0.7) every so many steps (1000), always from the same latents.
   * @default in `samples` of the run's folder, none without
   */
  sample?: { folder?: PathLike; every?: number; count?: number; temperature?: number }
  /** Stops between two steps, after writing a checkpoint where they are asked for; `finished` then rejects with `signal.reason`. */
  signal?: AbortSignal
}

const isBeta = (value: unknown): boolean => is.atLeastZero.accepts(value) && (value as number) < 1
const betas: Rule = {
  expected: '[beta1, beta2], each in [0, 1)',
  accepts: (value) => Array.isArray(value) && value.length === 2 && value.every(isBeta),
  schema: { type: 'array', items: { type: 'number', minimum: 0, exclusiveMaximum: 1 }, minItems: 2, maxItems: 2 },
}
export const trainRules: Rules<TrainOptions> = {
  steps: is.integer(1),
  epochs: is.positive,
  seconds: is.positive,
  batchSize: is.integer(1),
  accumulate: is.integer(1),
  initImages: is.integer(1),
  optimizer: is.nested<NonNullable<TrainOptions['optimizer']>>({
    name: is.oneOf('adam', 'adamax'),
    learningRate: is.positive,
    betas,
    epsilon: is.positive,
    weightDecay: is.atLeastZero,
  }),
  schedule: is.oneOf('constant', 'cosine'),
  warmup: is.integer(0),
  clipNorm: is.positive,
  onNotFinite: is.oneOf('stop', 'rollback'),
  augment: is.nested<NonNullable<TrainOptions['augment']>>({ flip: is.boolean, shift: is.atLeastZero }),
  ema: is.positive,
  activations: is.oneOf('auto', 'stored', 'inputs', 'constant'),
  seed: is.seed,
  evaluate: is.nested<NonNullable<TrainOptions['evaluate']>>({
    data: is.required(datasetRule),
    every: is.required(is.integer(1)),
    limit: is.integer(1),
  }),
  folder: is.path,
  checkpoint: is.nested<NonNullable<TrainOptions['checkpoint']>>({
    folder: is.path,
    every: is.integer(1),
    keep: is.integer(1),
  }),
  sample: is.nested<NonNullable<TrainOptions['sample']>>({
    folder: is.path,
    every: is.integer(1),
    count: is.integer(1),
    temperature: is.atLeastZero,
  }),
  signal: is.abortSignal,
}

export type TrainEvent =
  | {
      readonly type: 'run-start'
      readonly step: number
      /** Batches of `batchSize`, of which a step takes `accumulate`. */
      readonly batchesPerEpoch: number
      /** Of training, before a resumption. */
      readonly seconds: number
    }
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
  /** Of training, those before a resumption included. */
  readonly seconds: number
  /** The last checkpoint, where they were asked for. */
  readonly checkpoint?: string
}

/**
 * A run under way or over. Each iterator starts with `run-start`, goes on with the next event and always gets the last one; one
 * that is opened after the end gets that one alone. A failure makes the iteration throw the same error that `finished` rejects with. Leaving the loop,
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
  data: AnyDataset,
  options: TrainOptions,
  precision: Precision,
  onEnd: () => void,
  from?: native.Checkpoint,
): TrainingRun {
  checkOne('data', data, datasetRule)
  return new Run(model, data, options, toTrainConfig(options, precision, from), onEnd, from)
}

/** The engine's `TrainConfig` of these options, as JSON: over those of a checkpoint, or defaults left out. */
export function toTrainConfig(options: TrainOptions, precision: Precision, from?: native.Checkpoint): string {
  const json = (usable: TrainOptions): string => {
    const given = trainJson(usable, precision)
    return from ? from.options(given) : given
  }
  check(options, trainRules, (usable) => engineSays(() => native.trainProblems(json(usable))))
  return engineSays(() => json(options))
}

function trainJson(
  { signal: _, activations, evaluate, folder, checkpoint, sample, ...rest }: TrainOptions,
  precision: Precision,
): string {
  const placed = <T extends { folder?: PathLike }>(options: T | undefined): object | undefined =>
    options && { ...options, folder: options.folder && toPath(options.folder) }
  return JSON.stringify({
    ...rest,
    precision,
    activations: activations === 'auto' ? undefined : activations,
    // Held-out data are not in a checkpoint: a resumed run scores those that it is given.
    evaluate: evaluate ? { every: evaluate.every, limit: evaluate.limit } : null,
    folder: folder && toPath(folder),
    checkpoint: placed(checkpoint),
    sample: placed(sample),
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
    data: AnyDataset,
    { evaluate, signal }: TrainOptions,
    config: string,
    onEnd: () => void,
    from?: native.Checkpoint,
  ) {
    let settle = (): void => {}
    const wake = (): void => {
      settle()
      this.#tell()
      this.#news = this.#nextNews()
    }
    this.#news = this.#nextNews()
    this.#native = engineSays(() =>
      model.train(toDataset('data', data), evaluate && toDataset('evaluate.data', evaluate.data), config, from, wake),
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
