import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'
import { estimateMemory, type PresetName, presets } from 'glowflow'

import { readSettings } from '../dist/cli/config-file.js'
import { over, recipe } from '../dist/cli/preset.js'
import { paths } from '../dist/cli/settings.js'
import { glowflow, idxFolder } from './cli-helpers.js'
import { folder } from './helpers.js'

const names = Object.keys(presets) as PresetName[]

test('presets have as many weights as models of the paper', (t) => {
  const counts = Object.fromEntries(names.map((name) => [name, estimateMemory(presets[name].model).parameters]))
  t.like(counts, {
    cifar10: 44_603_604,
    'cifar10-conditional': 38_397_320,
    imagenet32: 66_861_588,
    'imagenet32-conditional': 57_695_876,
    imagenet64: 112_377_540,
    celeba256: 175_099_620,
  })
  t.is(counts['cifar10-small'], 442_416)
})

test('a step of a recipe takes the images that the GPUs of the original take, at 10 epochs of warm-up', (t) => {
  for (const [name, images, warmup, beta2] of [
    ['cifar10', 8 * 64, 977, 0.9898],
    ['cifar10-conditional', 8 * 64, 977, 0.9898],
    ['imagenet32', 8 * 64, 977, 0.9898],
    ['imagenet64', 8 * 16, 977, 0.9898],
    ['lsun64', 8 * 16, 977, 0.9898],
    ['lsun96', 40 * 7, 196, 0.95],
    ['celeba256', 40, 196, 0.95],
  ] as const) {
    const { batchSize = 0, accumulate = 0, warmup: found, optimizer } = presets[name].train
    t.deepEqual([batchSize * accumulate, found, optimizer?.name], [images, warmup, 'adamax'], name)
    t.true(Math.abs(optimizer!.betas![1] - beta2) < 5e-6, name)
  }
})

test('presets are plain data that nobody changes and that every rule accepts', async (t) => {
  const file = join(await folder(t), 'preset.json')
  t.true(Object.isFrozen(presets))
  for (const name of names) {
    const { model, train, data } = presets[name]
    for (const part of [presets[name], model, train, train.optimizer, data]) t.true(Object.isFrozen(part), name)
    t.deepEqual(JSON.parse(JSON.stringify(presets[name])), presets[name], name)
    t.notThrows(() => estimateMemory(model, train), name)
    // oxlint-disable-next-line no-await-in-loop -- One file, written again and again.
    await writeFile(file, JSON.stringify(presets[name]))
    // oxlint-disable-next-line no-await-in-loop
    t.deepEqual(await readSettings({}, [], file), presets[name] as object, name)
  }
})

test('an option wins over the file, the file over the preset, the preset over the defaults', async (t) => {
  const file = join(await folder(t), 'config.json')
  await writeFile(file, JSON.stringify({ model: { depth: 4, levels: 2 }, train: { optimizer: { learningRate: 1 } } }))
  const wanted = [...paths('model'), ...paths('train')]
  const { model, train, data } = await readSettings({ depth: '8' }, wanted, file, recipe('cifar10'))
  t.deepEqual(model, {
    hidden: 512,
    permutation: 'conv1x1',
    edgeBias: true,
    learnTop: true,
    levels: 2,
    depth: 8,
    coupling: 'affine',
  })
  t.deepEqual(train?.optimizer, { ...presets.cifar10.train.optimizer, learningRate: 1 })
  t.deepEqual(data, {})
  t.is(presets.cifar10.model.depth, 32)
})

test('a limit that is given replaces those of the preset', (t) => {
  t.is(over(recipe('mnist'), { train: { batchSize: 8 } }).train?.seconds, 150)
  const { seconds, steps, schedule } = over(recipe('mnist'), { train: { steps: 9 } }).train ?? {}
  t.deepEqual([seconds, steps, schedule], [undefined, 9, 'cosine'])
})

test('train and info take a preset by its name', async (t) => {
  const dir = await folder(t)
  const data = await idxFolder(dir, 32)
  const small = ['--pad', '4', '--depth', '1', '--hidden', '8', '--steps', '2', '--device', 'cpu', '--out', 'run']
  const trained = await glowflow(['train', '--preset', 'mnist', '--data', data, ...small], dir)
  t.is(trained.code, 0, trained.stderr)
  const kept = JSON.parse(await readFile(join(dir, 'run', 'settings.json'), 'utf8'))
  t.like(kept.model, { imageSize: 16, channels: 1, levels: 3, depth: 1, hidden: 8 })
  t.like(kept.train, { batchSize: 32, schedule: 'cosine', optimizer: { learningRate: 5e-3 }, steps: 2 })
  t.false('seconds' in kept.train)
  t.is(kept.data.pad, 4)

  const info = await glowflow(['info', '--preset', 'celeba256', '--json'])
  const { memory, config } = JSON.parse(info.stdout)
  t.like(memory, { parameters: 175_099_620, batchSize: 8 })
  t.like(config, { imageSize: 256, bits: 5, coupling: 'additive' })

  const wrong = await glowflow(['train', '--preset', 'imagnet64', '--data', data], dir)
  t.is(wrong.code, 2)
  t.is(wrong.stderr, 'glowflow train: Unknown preset imagnet64, the closest known one is imagenet64 (ERR_CLI_USAGE)\n')
  const both = await glowflow(['train', '--preset', 'mnist', '--resume', 'run'], dir)
  t.regex(both.stderr, /Expected --preset or --resume but received both/)
})
