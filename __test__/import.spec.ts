import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'
import {
  createNice,
  estimateMemory,
  exportPyTorch,
  imagesInMemory,
  importPyTorch,
  listLayers,
  loadModel,
  type PyTorchLayout,
} from 'glowflow'

import { glowflow } from './cli-helpers.js'
import { folder, initialized, peerFile as fixture, refuses, slopes } from './helpers.js'

const fixtures: readonly [folder: string, layout: PyTorchLayout, ours: string][] = [
  ['ros_affine_nolu', 'rosinality', 'rosinality'],
  ['y0ast_affine_lu', 'y0ast', 'chaiyujin'],
  ['chai_affine_nolu', 'chaiyujin', 'chaiyujin'],
  ['nf_glow_lu', 'normflows', 'normflows'],
]

/** As the fixtures take them. */
const shape = { height: 16, width: 16, channels: 3 }

for (const [name, layout, ours] of fixtures)
  test(`weights of ${layout} become a model that can be used, trained and saved`, async (t) => {
    const { model, report } = await importPyTorch(fixture(`${name}/model.pt`), { layout, imageSize: 16, device: 'cpu' })
    t.teardown(() => model.dispose())
    t.like(model.config, { kind: 'glow', layout: ours, bits: 8, imageSize: 16, channels: 3, levels: 2, hidden: 16 })
    t.deepEqual([report.missing, report.unused], [[], []])
    t.true(report.applied.length > 50)
    t.true(model.initialized)
    t.is(listLayers(model.config).at(-1)!.path, 'top')
    t.is(estimateMemory(model.config).parameters, model.parameterCount)

    const images = slopes(16, shape)
    const mean = async (): Promise<number> => (await model.evaluate(imagesInMemory(images))).bitsPerDim
    const before = await mean()
    await model.train(imagesInMemory(images), { steps: 10, batchSize: 16, warmup: 0 }).finished
    const after = await mean()
    t.true(after < before - 0.01, `${before} to ${after}`)
    const file = join(await folder(t), 'model.safetensors')
    await model.save(file)
    await using loaded = await loadModel(file, { device: 'cpu' })
    t.deepEqual(loaded.config, model.config)
    t.deepEqual(await loaded.encode(images), await model.encode(images))
  })

test('options say what weights cannot', async (t) => {
  const import16 = (options: object) =>
    importPyTorch(fixture('y0ast_affine_lu/model.safetensors'), { layout: 'y0ast', imageSize: 16, ...options })
  const { model: centred } = await import16({})
  const { model: unit } = await import16({ inputRange: 'unit', bits: 4 })
  t.is(unit.config.bits, 4)
  const floats = (shift: number) => ({
    count: 2,
    ...shape,
    data: Float32Array.from(slopes(2, shape).data, (v) => v + shift),
  })
  const [found, truth] = [await unit.encode(floats(0)), await centred.encode(floats(128))]
  t.true(found.data.every((value, index) => Math.abs(value - truth.data[index]!) < 1e-4))
  await Promise.all([centred.dispose(), unit.dispose()])

  await refuses(t, 'ERR_GLOW_OPTION', /layout .*'openai'/, () => import16({ layout: 'openai' }))
  await refuses(t, 'ERR_GLOW_OPTION', /imageSize/, () => import16({ imageSize: undefined }))
  await refuses(t, 'ERR_GLOW_OPTION', /a multiple of 4 .* imageSize/, () => import16({ imageSize: 18 }))
  await refuses(t, 'ERR_GLOW_OPTION', /from 1 to 8 for bits/, () => import16({ bits: 9 }))
  await refuses(t, 'ERR_GLOW_OPTION', /'centred' or 'unit' for inputRange/, () => import16({ inputRange: 'byte' }))
  await refuses(t, 'ERR_GLOW_OPTION', /Unknown option allowpartial/, () => import16({ allowpartial: true }))
})

test('weights that do not fit are refused with what was found', async (t) => {
  const file = fixture('nf_glow_lu/model.pt')
  await refuses(t, 'ERR_GLOW_WEIGHTS', /weights of y0ast.*they are of normflows/, () =>
    importPyTorch(file, { layout: 'y0ast', imageSize: 16 }),
  )
  const into = await folder(t)
  const renamed = join(into, 'model.safetensors')
  const whole = await readFile(fixture('ros_affine_nolu/model.safetensors'), 'latin1')
  await writeFile(renamed, whole.replace('"blocks.0.prior.conv.bias"', '"blocks.0.prior.conv.bios"'), 'latin1')
  const options = { layout: 'rosinality', imageSize: 16, device: 'cpu' } as const
  const { details } = await refuses(t, 'ERR_GLOW_WEIGHTS', /closest: blocks\.0\.prior\.conv\.bios/, () =>
    importPyTorch(renamed, options),
  )
  const missing = [{ name: 'blocks.0.prior.conv.bias', closest: 'blocks.0.prior.conv.bios' }]
  t.like(details, { report: { missing, unused: ['blocks.0.prior.conv.bios'] } })
  const { model, report } = await importPyTorch(renamed, { ...options, allowPartial: true })
  await model.dispose()
  t.deepEqual(report.missing, missing)

  const text = join(into, 'model.txt')
  await writeFile(text, 'no weights')
  await refuses(t, 'ERR_GLOW_FILE', /torch\.save/, () => importPyTorch(text, options))
  await refuses(t, 'ERR_GLOW_IO', /nowhere/, () => importPyTorch(join(into, 'nowhere.pt'), options))
})

test('a model of rosinality goes back to PyTorch; others are refused with the reason', async (t) => {
  const into = await folder(t)
  const options = { layout: 'rosinality', imageSize: 16, bits: 8, device: 'cpu' } as const
  const { model, report } = await importPyTorch(fixture('ros_affine_lu_small/model_legacy.pt'), options)
  const file = join(into, 'model.pt')
  await exportPyTorch(model, file, { layout: 'rosinality' })
  const back = await importPyTorch(file, options)
  t.deepEqual(back.report, report)
  const images = slopes(3, shape)
  t.deepEqual(await back.model.encode(images), await model.encode(images))
  await Promise.all([model.dispose(), back.model.dispose()])

  const nowhere = join(into, 'nowhere.pt')
  await using glow = await initialized()
  await using nice = await createNice({ imageSize: 8, channels: 1, couplings: 3, hidden: 8, layers: 1, device: 'cpu' })
  await refuses(t, 'ERR_GLOW_OPTION', /ones around the image.* for layout .*"glow"/, () =>
    exportPyTorch(glow, nowhere, { layout: 'rosinality' }),
  )
  await refuses(t, 'ERR_GLOW_OPTION', /kind/, () => exportPyTorch(nice, nowhere, { layout: 'rosinality' }))
  await refuses(t, 'ERR_GLOW_OPTION', /layout/, () => exportPyTorch(glow, nowhere, { layout: 'y0ast' as 'rosinality' }))
  await refuses(t, 'ERR_GLOW_DISPOSED', /disposed/, () => exportPyTorch(model, nowhere, { layout: 'rosinality' }))
  t.deepEqual(await readdir(into), ['model.pt'])
})

test('on the command line', async (t) => {
  const into = await folder(t)
  const [weights, size] = [fixture('ros_affine_lu_small/model.pt'), ['--image-size', '16']]
  const said = await glowflow(['import', weights, '--layout', 'rosinality', ...size], into)
  t.is(said.code, 0, said.stderr)
  t.regex(said.stdout, /^\d+ tensors are the model's/)
  t.regex(said.stdout, /parameters in model\.safetensors$/m)
  const json = await glowflow(['import', weights, '--layout', 'rosinality', ...size, '--bits', '8', '--json'], into)
  t.like(JSON.parse(json.stdout), { config: { layout: 'rosinality', bits: 8 }, report: { missing: [], unused: [] } })
  const info = await glowflow(['info', '--model', 'model.safetensors'], into)
  t.is(info.code, 0, info.stderr)
  const toPyTorch = ['export', '--model', 'model.safetensors', '--format', 'pytorch']
  const written = await glowflow([...toPyTorch, '--layout', 'rosinality'], into)
  t.deepEqual([written.code, written.stdout], [0, 'weights of rosinality in model.pt\n'])

  const [other, incomplete, mixed] = await Promise.all([
    glowflow(['import', weights, '--layout', 'y0ast', ...size], into),
    glowflow(toPyTorch, into),
    glowflow(['export', '--model', 'model.safetensors', '--part', 'encode', '--layout', 'rosinality'], into),
  ])
  t.is(other.code, 1)
  t.regex(other.stderr, /they are of rosinality .*ERR_GLOW_WEIGHTS/)
  t.deepEqual([incomplete.code, mixed.code], [2, 2])
  t.regex(incomplete.stderr, /--layout/)
})
