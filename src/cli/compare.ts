/** `glowflow compare` */

import { basename, join } from 'node:path'

import { closest } from 'fastest-levenshtein'

import { kinds as modelKinds, type ModelOptions, modelRules, titles } from '../config.js'
import { type FlowModel, type Plot, presets, writePlot } from '../index.js'
import { createModel } from '../model.js'
import { check } from '../options.js'
import * as is from '../rules.js'
import type { Rules } from '../rules.js'
import { command, note, number, show } from './command.js'
import { readJson, readSettings } from './config-file.js'
import { openBoth } from './data-source.js'
import { usageError } from './failure.js'
import { settingOptions } from './flags.js'
import { isPreset, recipe } from './preset.js'
import { loosely, paths, type Settings } from './settings.js'
import { markdown, runTrials, type Trial, type TrialResult, writeTable } from './trial.js'

/** A kind of model that takes part. */
interface Kind {
  readonly title: string
  readonly rules: Rules
  readonly make: (options: object) => Promise<FlowModel>
}

/** By the name that `model.config` has for it. */
const kinds: Readonly<Record<string, Kind>> = Object.fromEntries(
  modelKinds.map((kind) => [
    kind,
    {
      title: titles[kind],
      rules: modelRules[kind],
      make: (options) => createModel({ ...options, kind } as ModelOptions),
    } satisfies Kind,
  ]),
)

/** One that takes part: a kind with options. */
interface Contender {
  readonly name: string
  readonly kind: Kind
  readonly options: object
}

const usual = {
  train: { batchSize: 32, warmup: 100, optimizer: { learningRate: 1e-3 }, evaluate: { every: 200, limit: 500 } },
} as const satisfies Settings

const train = [
  'steps',
  'seconds',
  'batchSize',
  'accumulate',
  'optimizer.name',
  'optimizer.learningRate',
  'schedule',
  'warmup',
  'clipNorm',
  'augment.flip',
  'ema',
  'activations',
  'seed',
  'evaluate.every',
  'evaluate.limit',
].map((name) => `train.${name}`)
const data = paths('data')
const defaults = {
  'train.batchSize': usual.train.batchSize,
  'train.warmup': usual.train.warmup,
  'train.evaluate.every': usual.train.evaluate.every,
  'train.evaluate.limit': usual.train.evaluate.limit,
  'data.evalFraction': 'the test part, or 0.05',
}
const device = ['model.device']

export const compareCommand = () => {
  const compare = command(
    'compare',
    '--data <path> --seconds <n> [options]',
    "The Glow paper's table 2: models of several kinds, trained on the same data with the same seed for the same time, scored on " +
      'the same held-out images. A run that is done is kept in the folder: the same line goes on after an interruption.',
    [
      ['compare --data data/cifar-10 --seconds 600', 'each kind of model for ten minutes'],
      [
        'compare --data bedroom --eval-data bedroom-val --size 96 --random-crop 64 --seconds 3600',
        'LSUN as the paper reads it',
      ],
      ['compare --data data/cifar-10 --models cifar10-small wide.json --steps 5000', 'a preset and a file of options'],
    ],
  )
    .optionsGroup('Comparison:')
    .option(
      '--models <name...>',
      `what is compared: ${Object.keys(kinds).join(', ')}, a preset's model, or a .json file of a model's options, with its kind (default: each kind)`,
    )
    .option('--limit <n>', 'held-out images that are scored at the end (default: all)', number)
    .option('--out <folder>', 'where results, table and plots go', 'comparison')
  const groups = [
    ['Data:', data],
    ['Training:', train],
    ['Model:', device],
  ] as const
  for (const [heading, group] of groups)
    for (const option of settingOptions(heading, group, defaults)) compare.addOption(option)
  return compare.action(async ({ models = Object.keys(kinds), limit, out, json, ...typed }) => {
    check({ limit }, { limit: is.integer(1) })
    const settings = await readSettings(typed, [...device, ...train, ...data], undefined, usual)
    const { evaluate, ...training } = settings.train ?? {}
    if (training.steps === undefined && training.seconds === undefined)
      throw usageError('Expected --seconds or --steps to say how long each model trains')
    const contenders = await Promise.all(models.map(contender))
    const twice = contenders.find(({ name }, at) => contenders.findIndex((other) => other.name === name) !== at)
    if (twice) throw usageError(`Expected models of different names but received ${twice.name} twice`)
    const { train: images, heldOut } = await openBoth(settings.data ?? {})
    const { height, width, channels } = images
    const { seed = 0 } = training
    const trials = contenders.map(({ name, kind, options }): Trial => {
      const whole = { seed, ...settings.model, ...options, imageSize: [height, width], channels }
      return {
        name,
        title: name,
        model: whole,
        make: () => kind.make(whole),
        train: { ...(training as object), seed },
      }
    })
    const { every = usual.train.evaluate.every, ...of } = evaluate ?? {}
    const curve = { every, ...of }
    const results = await runTrials(trials, { folder: out, data: images, heldOut, curve, limit, progress: !json })
    const rows = contenders.map(({ name }, at): Row => ({ name, ...results[at]! }))
    const text = tableText(rows)
    const byTime = training.steps === undefined
    await writeTable(out, { settings, limit, rows }, text)
    await Promise.all(['svg', 'png'].map((ending) => writePlot(join(out, `curves.${ending}`), plot(rows, byTime))))
    note(`${join(out, 'table.md')}, table.json, curves.svg and curves.png`)
    show({ json: { out, rows }, text }, json)
  })
}

type Row = { readonly name: string } & TrialResult

/** A kind, a preset's model, or a file's. */
async function contender(name: string): Promise<Contender> {
  if (Object.hasOwn(kinds, name)) return { name, kind: kinds[name]!, options: {} }
  if (isPreset(name)) return { name, kind: kinds['glow']!, options: recipe(name).model ?? {} }
  if (!name.endsWith('.json')) {
    const near = closest(name, [...Object.keys(kinds), ...Object.keys(presets)])
    throw usageError(`Unknown model ${name}, the closest known one is ${near}; a file of options ends in .json`)
  }
  const options = await readJson(name)
  const { kind = 'glow' } = (is.object.accepts(options) ? options : {}) as { kind?: string }
  const known = Object.hasOwn(kinds, kind) ? kinds[kind]! : kinds['glow']!
  check(
    options as object,
    { ...loosely(known.rules), kind: is.oneOf(...Object.keys(kinds)) } as object as Rules<object>,
  )
  return { name: basename(name, '.json'), kind: known, options: options as object }
}

function tableText(rows: readonly Row[]): string {
  const head = ['model', 'held-out bits/dim', 'parameters', 'steps', 'images/s', 'seconds']
  const lines = rows.map(({ name, bitsPerDim, standardError, parameters, steps, imagesPerSecond, seconds }) => [
    kinds[name]?.title ?? name,
    `${bitsPerDim.toFixed(4)} ± ${standardError.toFixed(4)}`,
    parameters.toLocaleString('en'),
    steps.toLocaleString('en'),
    imagesPerSecond.toFixed(0),
    seconds.toFixed(0),
  ])
  const { images, device: label } = rows[0]!
  const foot = `Bits/dim ± standard error over ${images} held-out images, ${label}. Seconds are those of the steps alone.`
  return `${markdown([head, ...lines])}\n\n${foot}`
}

/** Held-out bits per dimension over what was the same for all: time, or steps. */
function plot(rows: readonly Row[], byTime: boolean): Plot {
  return {
    title: 'Held-out bits per dimension',
    xLabel: byTime ? 'seconds of training' : 'step',
    yLabel: 'bits per dimension',
    series: rows.map(({ name, curve }) => ({
      name: kinds[name]?.title ?? name,
      points: curve.map(({ step, seconds, bitsPerDim }) => [byTime ? seconds : step, bitsPerDim] as const),
    })),
  }
}
