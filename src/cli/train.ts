/** `glowflow train` */

import { access, mkdir } from 'node:fs/promises'
import { basename, dirname, join, relative, resolve } from 'node:path'

import { Option } from '@commander-js/extra-typings'

import {
  resumeTraining,
  type Dataset,
  type FlowModel,
  type TrainEvent,
  type TrainingRun,
  type TrainOptions,
  type TrainSummary,
} from '../index.js'
import { titles } from '../config.js'
import { createModel } from '../model.js'
import { modelOptions } from './classes.js'
import { command, note } from './command.js'
import { readSettings } from './config-file.js'
import { openParts } from './data-source.js'
import { exitCode, fileError, usageError } from './failure.js'
import { writeWhole } from './files.js'
import { settingOptions, typedOptions } from './flags.js'
import { presetOption, recipe } from './preset.js'
import { duration, Progress } from './progress.js'
import { paths, type Settings } from './settings.js'

/** In the run folder: everything that was asked for, as a file that `--config` takes. */
const settingsFile = 'settings.json'

const data = paths('data')
/** `--seed` sets two of them, `--channels` those of the data, which the model follows. */
const wanted = [...paths('train'), ...paths('model', ['model.channels']), ...data]

export function trainCommand() {
  const train = command('train', '--data <path> [options]', 'Train a new model, or go on with a run.', [
    [
      'train --data data/mnist --pad 2 --depth 4 --hidden 64 --epochs 5',
      'MNIST for five epochs, into runs/mnist-<date>',
    ],
    [
      'train --data photos --size 64 --bits 5 --flip --eval-fraction 0.05',
      'a folder of pictures, a twentieth of them held out',
    ],
    ['train --kind nice --data data/mnist --seconds 600', 'another model than Glow'],
    ['train --preset mnist --data data/mnist --seconds 60', 'a recipe that comes with the package, for a minute'],
    ['train --config mnist.json --seconds 600 --out runs/long', 'settings of a file, some of them overridden'],
    ['train --resume runs/long --seconds 1200', 'go on with a run, for longer'],
    ['train --data data/cifar-10 --steps 100 --json | jq .loss', 'one JSON event a line'],
  ])
    .optionsGroup('Run:')
    .option('--config <file>', 'JSON of {model, train, data}, as in schema/config.schema.json; options win over it')
    .option('--resume <path>', 'a run folder or checkpoint to go on with, with its settings')
    .addOption(presetOption())
  const ofRun = ['train.folder', 'model.device']
  const groups = [
    ['Run:', ofRun],
    ['Data:', data],
    ['Training:', paths('train', ['train.seed', ...ofRun])],
    ['Model:', paths('model', ['model.channels', 'model.seed', ...ofRun])],
  ] as const
  for (const [heading, group] of groups) for (const option of settingOptions(heading, group)) train.addOption(option)
  train.addOption(
    new Option('--seed <n>', 'of the initial weights, the order of the data and the noise').helpGroup('Run:'),
  )

  return train.action(async (options) => {
    const { config, preset, resume, json } = options
    const [other] = Object.entries({ config, preset }).flatMap(([name, value]) => (value === undefined ? [] : [name]))
    if (other && resume !== undefined) throw usageError(`Expected --${other} or --resume but received both`)
    const interruption = new Interruption()
    const { model, run, events, folder, limits } = await (resume === undefined
      ? start(options, config, preset)
      : goOn(options, resume))
    await using _ = model
    const progress = json ? undefined : new Progress(limits)
    interruption.of(run, (line) => (progress ? progress.say(line) : note(line)))
    try {
      for await (const event of events) {
        if (json) process.stdout.write(`${JSON.stringify(event)}\n`)
        progress?.tell(event)
      }
    } finally {
      progress?.stop()
      interruption.over()
    }
    if (!json) process.stdout.write(`${sentence(await run.finished, folder)}\n`)
  })
}

/** The first Ctrl-C or SIGTERM ends a run after the step under way; the second, or one before there is a run, this program. */
class Interruption {
  #run: TrainingRun | undefined
  #asked = false
  #say = note
  readonly #interrupt = (): void => {
    if (this.#asked || !this.#run) process.exit(exitCode.interrupted)
    this.#asked = true
    this.#say('Ending after the step under way; Ctrl-C again to quit at once')
    this.#run.stop().catch(() => {})
  }

  constructor() {
    process.on('SIGINT', this.#interrupt).on('SIGTERM', this.#interrupt)
  }

  of(run: TrainingRun, say: (line: string) => void): void {
    this.#run = run
    this.#say = say
  }

  over(): void {
    process.off('SIGINT', this.#interrupt).off('SIGTERM', this.#interrupt)
  }
}

interface Started {
  readonly model: FlowModel
  readonly run: TrainingRun
  /** From the start of the run. */
  readonly events: AsyncIterable<TrainEvent>
  readonly folder: string
  /** As they hold for the run. */
  readonly limits: TrainOptions
}

async function start(
  typed: Readonly<Record<string, unknown>>,
  file: string | undefined,
  preset: string | undefined,
): Promise<Started> {
  const settings = await readSettings(typed, wanted, file, preset === undefined ? {} : recipe(preset))
  const folder = resolve(settings.train?.folder ?? join('runs', `${runName(settings.data?.path)}-${now()}`))
  if (await exists(join(folder, settingsFile)))
    throw usageError(`${folder} holds a run already: go on with --resume, or name another folder with --out`)
  const { train, heldOut } = await openParts(settings.data ?? {})
  const options = toOptions(settings, folder, heldOut)
  const model = await createModel(modelOptions(settings.model ?? {}, train))
  note(`${titles[model.config.kind]} of ${model.parameterCount} weights on ${model.device.label}, into ${folder}`)
  return follow(model, model.train(train, options), settings, folder, options)
}

async function goOn(typed: Readonly<Record<string, unknown>>, path: string): Promise<Started> {
  const [fixed] = typedOptions(typed, [...paths('model', ['model.device']), 'train.folder'])
  if (fixed) throw usageError(`Expected no ${fixed} with --resume: the run has it already`)
  const folder = await runFolder(path)
  const settings = await readSettings(typed, wanted, join(folder, settingsFile))
  const { train, heldOut } = await openParts(settings.data ?? {})
  const options = toOptions(settings, folder, heldOut)
  const device = settings.model?.device
  const { model, run } = await resumeTraining(path, train, { ...options, ...(device && { device }) })
  note(
    `${titles[model.config.kind]} of ${model.parameterCount} weights on ${model.device.label}, from step ${model.step} of ${folder}`,
  )
  return follow(model, run, settings, folder, options)
}

/** Listens at once: an event that nobody waits for is gone, but for the first. */
function follow(model: FlowModel, run: TrainingRun, settings: Settings, folder: string, limits: TrainOptions): Started {
  const whole = { ...settings, model: { ...settings.model, ...model.config } as Settings['model'] & object }
  return { model, run, events: keeping(run[Symbol.asyncIterator](), whole, folder), folder, limits }
}

/** The events of a run; the first says that the folder is the run's, and the settings are left in it. */
async function* keeping(
  events: AsyncIterator<TrainEvent>,
  settings: Settings,
  folder: string,
): AsyncGenerator<TrainEvent> {
  let kept = false
  for await (const event of { [Symbol.asyncIterator]: () => events }) {
    if (!kept) await keep(settings, folder)
    kept = true
    yield event
  }
}

/** The run's folder, of itself or of something in it. */
async function runFolder(path: string): Promise<string> {
  for (let folder = resolve(path); ; folder = dirname(folder)) {
    // oxlint-disable-next-line no-await-in-loop -- Upwards, until it is there.
    if (await exists(join(folder, settingsFile))) return folder
    if (folder === dirname(folder)) throw fileError(path, `there is no ${settingsFile} of a run in it or above it`)
  }
}

function toOptions({ train = {} }: Settings, folder: string, heldOut: Dataset | undefined): TrainOptions {
  const { evaluate, ...rest } = train
  if (evaluate && !heldOut) throw usageError('Expected --eval-data or --eval-fraction to say what is to be scored')
  return {
    ...rest,
    folder,
    ...(heldOut && { evaluate: { every: 1000, ...evaluate, data: heldOut } }),
  }
}

/** Leaves the settings in the run folder, with paths that hold from anywhere. */
async function keep(settings: Settings, folder: string): Promise<void> {
  const { path, evalPath, attributeFile, ...rest } = settings.data ?? {}
  const absolute = Object.entries({ path, evalPath, attributeFile }).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, resolve(value)]],
  )
  const kept = { ...settings, data: { ...rest, ...Object.fromEntries(absolute) }, train: { ...settings.train, folder } }
  await mkdir(folder, { recursive: true })
  await writeWhole(join(folder, settingsFile), `${JSON.stringify(kept, null, 2)}\n`)
}

function sentence({ step, loss, reason, seconds }: TrainSummary, folder: string): string {
  const shown = relative(process.cwd(), folder)
  const named = shown.startsWith('..') ? folder : shown
  if (reason === 'stopped') return `Stopped at step ${step}. To go on: glowflow train --resume ${named}`
  // A run without a step has no loss.
  if (Number.isNaN(loss))
    return `The run has finished at step ${step} already: raise --steps, --epochs or --seconds to go on.`
  return `Finished at step ${step} after ${duration(seconds)}, ${loss.toFixed(3)} bits/dim. Next: glowflow sample --model ${named}`
}

const runName = (path = 'run'): string => basename(resolve(path)).replace(/\W+/g, '-').toLowerCase() || 'run'
const now = (): string => new Date().toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-')
const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  )
