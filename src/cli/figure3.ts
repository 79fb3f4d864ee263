/** `glowflow figure3` */

import { join } from 'node:path'

import { createGlow, type GlowOptions, type ModelConfig, type Plot, writePlot } from '../index.js'
import * as is from '../rules.js'
import { check } from '../options.js'
import { modelOptions } from './classes.js'
import { command, note, number, show } from './command.js'
import { readSettings } from './config-file.js'
import { openBoth } from './data-source.js'
import { settingOptions } from './flags.js'
import { over, presetOption, recipe } from './preset.js'
import { paths, type Settings } from './settings.js'
import { mean, spread } from './statistics.js'
import { markdown, meanCurve, runTrials, type Trial, type TrialResult, writeTable } from './trial.js'

type GlowConfig = Extract<ModelConfig, { kind: 'glow' }>
type Coupling = GlowConfig['coupling']
type Permutation = GlowConfig['permutation']
/** What one run of the figure is of. */
export interface Place {
  readonly coupling: Coupling
  readonly permutation: Permutation
  readonly seed: number
}

const couplings = ['additive', 'affine'] as const
const titles: Readonly<Record<Permutation, string>> = {
  reverse: 'reverse',
  shuffle: 'shuffle',
  conv1x1: '1x1 conv',
  'conv1x1-lu': '1x1 conv, PLU',
}

/** What two cores do with CIFAR-10 in less than an hour. The learning rate and the optimizer are the paper's. */
const usual = {
  model: { levels: 3, depth: 8, hidden: 64, edgeBias: true },
  train: { steps: 1200, batchSize: 32, warmup: 100, optimizer: { name: 'adamax', learningRate: 1e-3 } },
} as const satisfies Settings
const usualPoints = 12

const model = ['levels', 'depth', 'hidden', 'bits', 'edgeBias', 'precision', 'device'].map((name) => `model.${name}`)
const train = [
  'steps',
  'batchSize',
  'accumulate',
  'optimizer.name',
  'optimizer.learningRate',
  'schedule',
  'warmup',
  'activations',
  'evaluate.every',
].map((name) => `train.${name}`)
const data = paths('data')
const defaults = {
  'model.depth': usual.model.depth,
  'model.hidden': usual.model.hidden,
  'model.edgeBias': 'yes',
  'train.steps': usual.train.steps,
  'train.batchSize': usual.train.batchSize,
  'train.warmup': usual.train.warmup,
  'train.optimizer.name': usual.train.optimizer.name,
  'train.evaluate.every': `a ${usualPoints}th of the steps`,
  'data.evalFraction': 'the test part, or 0.05',
}

export const figure3Command = () => {
  const figure3 = command(
    'figure3',
    '--data <path> [options]',
    "The Glow paper's figure 3: what the 1x1 convolution brings. Trains each permutation with each coupling and several seeds, " +
      'for equally many steps. A run that is done is kept in the folder: the same line goes on after an interruption.',
    [
      ['figure3 --data data/cifar-10 --out figure3', '18 models of K=8 and width 64, an hour on two cores'],
      ['figure3 --data data/mnist --pad 2 --depth 2 --steps 200 --seeds 1', 'a first look'],
      ['figure3 --data data/cifar-10 --preset cifar10 --steps 50000 --device gpu', "the paper's own size"],
    ],
  )
    .optionsGroup('Figure:')
    .option('--seeds <n>', 'runs of each kind, with seeds from 0', number, 3)
    .option('--limit <n>', 'held-out images that are scored', number, 1000)
    .option('--lu', 'the 1x1 convolution in its PLU form, too')
    .option('--out <folder>', 'where results, table and plots go', 'figure3')
    .addOption(presetOption().helpGroup('Figure:'))
  const groups = [
    ['Data:', data],
    ['Training:', train],
    ['Model:', model],
  ] as const
  for (const [heading, group] of groups)
    for (const option of settingOptions(heading, group, defaults)) figure3.addOption(option)
  return figure3.action(async ({ seeds, limit, lu, out, preset, json, ...typed }) => {
    check({ seeds, limit }, { seeds: is.integer(1), limit: is.integer(1) })
    const under = over(usual, preset === undefined ? {} : withoutSchedule(recipe(preset)))
    const settings = await readSettings(typed, [...model, ...train, ...data], undefined, under)
    const { train: images, heldOut } = await openBoth(settings.data ?? {})
    const permutations: Permutation[] = ['reverse', 'shuffle', 'conv1x1', ...(lu ? (['conv1x1-lu'] as const) : [])]
    const { evaluate, ...training } = settings.train ?? {}
    const every = evaluate?.every ?? Math.max(1, Math.ceil((training.steps ?? 0) / usualPoints))
    const places = order(permutations, seeds)
    const trials = places.map(({ coupling, permutation, seed }): Trial => {
      const options: GlowOptions = { ...modelOptions(settings.model ?? {}, images), coupling, permutation, seed }
      return {
        name: `${coupling}-${permutation}-seed-${seed}`,
        title: `${coupling}, ${titles[permutation]}, seed ${seed}`,
        model: options,
        make: () => createGlow(options),
        train: { ...(training as object), seed },
      }
    })
    const found = await runTrials(trials, {
      folder: out,
      data: images,
      heldOut,
      curve: { every, limit },
      limit,
      progress: !json,
    })
    const runs = places.map((place, at): Run => ({ ...place, ...found[at]! }))
    const rows = tableRows(runs, permutations)
    const result = { settings: { ...settings, data: settings.data ?? {} }, limit, rows, runs }
    const text = tableText(rows, found)
    await writeTable(out, result, text)
    await Promise.all(couplings.flatMap((coupling) => drawn(runs, permutations, coupling, out)))
    note(`${join(out, 'table.md')}, table.json, additive.svg, additive.png, affine.svg and affine.png`)
    show({ json: { out, rows }, text }, json)
  })
}

/** A preset's model and how it trains; the figure's own couplings and permutations take the place of its. */
function withoutSchedule({ train: { seconds: _, epochs: __, ...rest } = {}, ...preset }: Settings): Settings {
  return { ...preset, train: rest }
}

/**
 * Seed by seed, and within a seed coupling by coupling, so that runs that are compared follow each other: a machine that grows
 * slower does it to all of them. Each seed begins with another permutation and the other coupling.
 */
export function order(permutations: readonly Permutation[], seeds: number): Place[] {
  return Array.from({ length: seeds }, (_, seed) => seed).flatMap((seed) =>
    turned(couplings, seed).flatMap((coupling) =>
      turned(permutations, seed).map((permutation) => ({ coupling, permutation, seed })),
    ),
  )
}

function turned<T>(list: readonly T[], by: number): T[] {
  const first = by % list.length
  return [...list.slice(first), ...list.slice(0, first)]
}

type Run = Place & TrialResult

/** One kind of model over all seeds. Of what there is a value for each seed, the seeds' values. */
export interface Row {
  readonly coupling: Coupling
  readonly permutation: Permutation
  readonly parameters: number
  readonly bitsPerDim: readonly number[]
  readonly secondsPerStep: readonly number[]
  /** Of a step, to one of the reversal with the same coupling and seed. */
  readonly timeToReverse: readonly number[]
}

export function tableRows(runs: readonly Run[], permutations: readonly Permutation[]): Row[] {
  const of = (coupling: Coupling, permutation: Permutation): Run[] =>
    runs
      .filter((run) => run.coupling === coupling && run.permutation === permutation)
      .toSorted((a, b) => a.seed - b.seed)
  return couplings.flatMap((coupling) => {
    const reverse = of(coupling, 'reverse')
    return permutations.map((permutation) => {
      const own = of(coupling, permutation)
      return {
        coupling,
        permutation,
        parameters: own[0]!.parameters,
        bitsPerDim: own.map(({ bitsPerDim }) => bitsPerDim),
        secondsPerStep: own.map(({ secondsPerStep }) => secondsPerStep),
        timeToReverse: own.map(({ secondsPerStep }, at) => secondsPerStep / reverse[at]!.secondsPerStep),
      }
    })
  })
}

function tableText(rows: readonly Row[], runs: readonly TrialResult[]): string {
  const { steps, images, device } = runs[0]!
  const seeds = runs.length / rows.length
  const head = ['coupling', 'permutation', 'parameters', 'held-out bits/dim', 'ms/step', 'time to reverse']
  const lines = rows.map(({ coupling, permutation, parameters, bitsPerDim, secondsPerStep, timeToReverse }) => [
    coupling,
    titles[permutation],
    parameters.toLocaleString('en'),
    spread(bitsPerDim, 4),
    (1000 * mean(secondsPerStep)).toFixed(1),
    permutation === 'reverse' ? '1' : spread(timeToReverse, 3),
  ])
  const foot =
    `Mean${seeds > 1 ? ' ± standard deviation' : ''} over ${seeds} ${seeds === 1 ? 'seed' : 'seeds'} after ${steps} steps, ` +
    `${images} held-out images, ${device}. Time of a step: the median of each run; its ratio is taken seed by seed.`
  return `${markdown([head, ...lines])}\n\n${foot}`
}

/** A coupling's half of the figure: for each permutation the mean over the seeds, and each seed's own curve pale behind it. */
function drawn(
  runs: readonly Run[],
  permutations: readonly Permutation[],
  coupling: Coupling,
  out: string,
): Promise<void>[] {
  const series = permutations.flatMap((permutation) => {
    const curves = runs
      .filter((run) => run.coupling === coupling && run.permutation === permutation)
      .map(({ curve }) => curve)
    const own = curves.length > 1 ? curves : []
    return [
      ...own.map((curve) => ({ points: meanCurve([curve]), faint: true })),
      { name: titles[permutation], points: meanCurve(curves) },
    ]
  })
  const title = `${coupling === 'affine' ? 'Affine' : 'Additive'} coupling`
  const plot: Plot = { title, xLabel: 'step', yLabel: 'held-out bits per dimension', series }
  return ['svg', 'png'].map((kind) => writePlot(join(out, `${coupling}.${kind}`), plot))
}
