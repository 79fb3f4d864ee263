/** Runs that are made to be compared, each kept when it is done, so that what was interrupted goes on. */

import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'

import type { Dataset, FlowModel, TrainEvent, TrainOptions } from '../index.js'
import { note } from './command.js'
import { usageError } from './failure.js'
import { writeWhole } from './files.js'
import { duration, Progress } from './progress.js'
import { mean, median } from './statistics.js'

/** A run to be made. */
export interface Trial {
  /** Of its file. */
  readonly name: string
  /** For people. */
  readonly title: string
  /** Options of the model: with those of training and the data, all that the result rests on. */
  readonly model: object
  readonly make: () => Promise<FlowModel>
  readonly train: TrainOptions
}

/** What came of one. */
export interface TrialResult {
  readonly parameters: number
  readonly device: string
  readonly steps: number
  /** Of training, scoring left out. */
  readonly seconds: number
  /** Median over the steps after the first ones, in which a machine warms up; scoring left out. */
  readonly secondsPerStep: number
  readonly imagesPerSecond: number
  /** Held-out bits per dimension on the way, and how far the way was. */
  readonly curve: readonly { readonly step: number; readonly seconds: number; readonly bitsPerDim: number }[]
  /** Of the held-out images, at the end. */
  readonly bitsPerDim: number
  readonly standardError: number
  readonly images: number
}

export interface Experiment {
  readonly folder: string
  readonly data: Dataset
  readonly heldOut: Dataset
  /** Steps between two points of a curve, and images of each. */
  readonly curve: { readonly every: number; readonly limit?: number }
  /** Held-out images that are scored at the end, all without it. */
  readonly limit?: number
  /** A bar for people. */
  readonly progress: boolean
}

/** Steps in which a machine warms up. */
const warmUp = 50

/** All results, in the order of `trials`; those that the folder holds are not made again. */
export async function runTrials(trials: readonly Trial[], experiment: Experiment): Promise<TrialResult[]> {
  const folder = join(experiment.folder, 'runs')
  await mkdir(folder, { recursive: true })
  const results: TrialResult[] = []
  for (const [index, trial] of trials.entries()) {
    const file = join(folder, `${trial.name}.json`)
    const settings = settingsOf(trial, experiment)
    const title = `${index + 1}/${trials.length} ${trial.title}`
    // oxlint-disable no-await-in-loop -- One at a time: they are timed.
    const kept = await readKept(file, settings)
    if (!kept) note(`${title} ...`)
    const result = kept ?? (await runTrial(trial, experiment))
    if (!kept) await writeWhole(file, `${JSON.stringify({ settings, result }, null, 2)}\n`)
    // oxlint-enable no-await-in-loop
    const { bitsPerDim, secondsPerStep, steps, seconds } = result
    const how = kept ? 'kept from before' : `${steps} steps in ${duration(seconds)}`
    note(`${title}: ${bitsPerDim.toFixed(4)} bits/dim, ${(1000 * secondsPerStep).toFixed(1)} ms/step, ${how}`)
    results.push(result)
  }
  return results
}

/** As JSON gives it back. */
function settingsOf({ model, train }: Trial, { data, heldOut, curve, limit }: Experiment): object {
  const all = { model, train, curve, limit, data: data.fingerprint, heldOut: heldOut.fingerprint }
  return JSON.parse(JSON.stringify(all)) as object
}

async function readKept(file: string, settings: object): Promise<TrialResult | undefined> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (text === undefined) return undefined
  const kept = JSON.parse(text) as { settings: object; result: TrialResult }
  if (isDeepStrictEqual(kept.settings, settings)) return kept.result
  throw usageError(`${file} is of a run with other settings or data: name another folder with --out`)
}

async function runTrial({ make, train }: Trial, experiment: Experiment): Promise<TrialResult> {
  const { data, heldOut, curve, limit } = experiment
  await using model = await make()
  const run = model.train(data, { ...train, evaluate: { data: heldOut, ...curve } })
  const record = new Recorder((train.batchSize ?? 64) * (train.accumulate ?? 1))
  const progress = experiment.progress ? new Progress(train) : undefined
  try {
    for await (const event of run) {
      record.tell(event)
      progress?.tell(event)
    }
  } finally {
    progress?.stop()
  }
  const score = await model.evaluate(heldOut, { seed: 0, ...(limit !== undefined && { limit }) })
  return { parameters: model.parameterCount, device: model.device.label, ...record.result(), ...score }
}

/** Times and scores of a run, from its events. */
export class Recorder {
  readonly #imagesPerStep: number
  readonly #times: number[] = []
  readonly #curve: TrialResult['curve'][number][] = []
  #seconds = 0

  constructor(imagesPerStep: number) {
    this.#imagesPerStep = imagesPerStep
  }

  tell(event: TrainEvent): void {
    if (event.type === 'step-end') {
      const each = this.#imagesPerStep / event.imagesPerSecond
      this.#times.push(...Array<number>(event.merged).fill(each))
      this.#seconds += event.merged * each
    } else if (event.type === 'evaluation-end') {
      const { step, bitsPerDim } = event
      this.#curve.push({ step, seconds: this.#seconds, bitsPerDim })
    }
  }

  result(): Pick<TrialResult, 'steps' | 'seconds' | 'secondsPerStep' | 'imagesPerSecond' | 'curve'> {
    const steps = this.#times.length
    // Of a run that is hardly longer than that, the later half.
    const secondsPerStep = median(this.#times.slice(Math.min(warmUp, Math.floor(steps / 2))))
    const imagesPerSecond = this.#imagesPerStep / secondsPerStep
    return { steps, seconds: this.#seconds, secondsPerStep, imagesPerSecond, curve: this.#curve }
  }
}

/** The mean of curves that have the same steps. */
export function meanCurve(curves: readonly TrialResult['curve'][]): [step: number, bitsPerDim: number][] {
  const [first = []] = curves
  return first.map(({ step }, at) => [step, mean(curves.map((curve) => curve[at]?.bitsPerDim ?? Number.NaN))])
}

/** What came of an experiment: for programs, and for people. */
export async function writeTable(folder: string, result: object, text: string): Promise<void> {
  await writeWhole(join(folder, 'table.json'), `${JSON.stringify(result, null, 2)}\n`)
  await writeWhole(join(folder, 'table.md'), `${text}\n`)
}

/** Rows as Markdown, the first one the head. */
export function markdown([head = [], ...rows]: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  return [head, head.map((_, at) => (at === 0 ? '---' : '---:')), ...rows].map(line).join('\n')
}
