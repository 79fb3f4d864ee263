/** `glowflow info` */

import { randomFillSync } from 'node:crypto'

import {
  createGlow,
  type DeviceName,
  estimateMemory,
  type GlowOptions,
  imagesInMemory,
  type LayerInfo,
  listLayers,
  loadModel,
  type TrainOptions,
} from '../index.js'
import { command, note, number, show, table } from './command.js'
import { readSettings } from './config-file.js'
import { usageError } from './failure.js'
import { settingOptions } from './flags.js'
import { deviceOption, modelOption } from './model.js'
import { presetOption, presetSettings } from './preset.js'
import { duration } from './progress.js'
import { paths } from './settings.js'

const wanted = paths('model', ['model.device'])

export const infoCommand = () => {
  const info = command('info', '[--model <path>] [options]', 'Say what a model is and what training it takes.', [
    ['info --model runs/photos', 'of a saved model'],
    ['info --preset celeba256', 'of a recipe'],
    ['info --image-size 64 --levels 4 --depth 48', 'of a model that is not there yet, without making it'],
    [
      'info --image-size 32 --depth 8 --hidden 128 --batch-size 16 --steps 10000',
      'how long ten thousand steps would take here',
    ],
  ])
    .addOption(modelOption().makeOptionMandatory(false))
    .addOption(deviceOption())
    .addOption(presetOption().helpGroup('Model options, without --model:'))
    .option(
      '--batch-size <n>',
      "images that are run through the model at once (default: the preset's, else 64)",
      number,
    )
    .option('--measure', 'train three steps on noise and say how fast that is here')
    .option('--steps <n>', 'measure, and say how long so many steps would take here', number)
  for (const option of settingOptions('Model options, without --model:', wanted)) info.addOption(option)
  return info.action(async ({ model: path, preset, device, batchSize: typedSize, measure, steps, json, ...typed }) => {
    const under = preset === undefined ? {} : presetSettings(preset)
    const { model: options = {} } = await readSettings(typed, wanted, undefined, { model: under.model ?? {} })
    if (path !== undefined && Object.keys(options).length > 0)
      throw usageError('Expected --model or the options of a model but received both')
    if (path === undefined && options.imageSize === undefined)
      throw usageError('Expected --model <path>, --preset <name>, or --image-size and other options of a model')
    const batchSize = typedSize ?? under.train?.batchSize ?? 64
    const saved = path === undefined ? undefined : await describe(path, device)
    const config = (saved?.config ?? options) as GlowOptions
    const memory = estimateMemory(config, { ...(under.train as TrainOptions), batchSize })
    const layers = listLayers(config)
    const speed = measure || steps ? await measured({ ...config, device }, { batchSize }) : undefined
    const imagesPerSecond = speed?.imagesPerSecond
    const text = [
      ...(saved ? [`${saved.step} steps of training${saved.initialized ? '' : ', has not seen data yet'}`] : []),
      ...Object.entries(config).map(([name, value]) => `${name} ${Array.isArray(value) ? value.join('x') : value}`),
      '',
      layerTable(layers),
      '',
      `Memory of a training step of ${batchSize} images, by --activations:`,
      table((['stored', 'inputs', 'constant'] as const).map((how) => [`  ${how}`, bytes(memory[how])])),
      ...(speed && imagesPerSecond ? ['', `${imagesPerSecond.toFixed(1)} images/s on ${speed.device}`] : []),
      ...(imagesPerSecond && steps
        ? [`${steps} steps of ${batchSize} images: ${duration((steps * batchSize) / imagesPerSecond)}`]
        : []),
    ]
    show(
      { json: { ...saved, config, layers, memory: { batchSize, ...memory }, ...speed }, text: text.join('\n') },
      json,
    )
  })
}

/** A line for each kind of layer of a level: its steps differ in nothing but their weights. */
function layerTable(layers: readonly LayerInfo[]): string {
  const rows = new Map<string, { times: number; shape: string; parameters: number }>()
  for (const { path, shape, parameters } of layers) {
    const name = path.replace(/steps\.\d+/, 'steps.*')
    const row = rows.get(name) ?? { times: 0, shape: shape.join('x'), parameters: 0 }
    rows.set(name, { ...row, times: row.times + 1, parameters: row.parameters + parameters })
  }
  const total = layers.reduce((sum, { parameters }) => sum + parameters, 0)
  const lines = [...rows].map(([name, { times, shape, parameters }]) => [name, `${times}`, shape, grouped(parameters)])
  return table([['layer', 'times', 'gives', 'parameters'], ...lines, ['all', `${layers.length}`, '', grouped(total)]])
}

const grouped = (count: number): string => count.toLocaleString('en')

async function describe(path: string, device: DeviceName | undefined) {
  await using model = await loadModel(path, { device })
  const { config, step, initialized } = model
  return { config, step, initialized }
}

/** Training speed on images of noise: what the pixels are makes no difference to it. */
async function measured(options: GlowOptions, train: TrainOptions & { batchSize: number }) {
  await using model = await createGlow(options)
  const { imageSize, channels } = model.config
  const [height, width] = typeof imageSize === 'number' ? [imageSize, imageSize] : imageSize
  const count = train.batchSize
  const data = randomFillSync(new Uint8Array(count * height * width * channels))
  note(`Training three steps of ${count} images on ${model.device.label} ...`)
  const run = model.train(imagesInMemory({ data, count, height, width, channels }), {
    ...train,
    steps: 3,
    initImages: count,
  })
  let imagesPerSecond = 0
  for await (const event of run) if (event.type === 'step-end') imagesPerSecond = event.imagesPerSecond
  return { imagesPerSecond, device: model.device.label }
}

function bytes(count: number): string {
  const [unit, size] = count < 2 ** 30 ? ['MiB', 2 ** 20] : ['GiB', 2 ** 30]
  return `${(count / (size as number)).toFixed(1)} ${unit}`
}
