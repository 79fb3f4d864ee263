import { join } from 'node:path'

import test, { type ExecutionContext } from 'ava'
import {
  createNice,
  createRealNvp,
  estimateMemory,
  type FlowModel,
  imagesInMemory,
  listLayers,
  loadModel,
  type RealNvpOptions,
  resample,
} from 'glowflow'

import { glowflow, idxFolder } from './cli-helpers.js'
import { folder, refuses, slopes } from './helpers.js'

/** What every kind of model does alike. */
async function works(t: ExecutionContext, model: FlowModel): Promise<void> {
  const images = slopes(32)
  const { config } = model
  t.is(model.parameterCount, estimateMemory(config).parameters)
  t.is(
    model.parameterCount,
    listLayers(config).reduce((sum, { parameters }) => sum + parameters, 0),
  )
  const { step } = await model.train(imagesInMemory(images), { steps: 20, batchSize: 8, warmup: 0 }).finished
  t.is(step, 20)
  const some = { ...images, count: 5, data: images.data.slice(0, 5 * 64) }
  const latents = await model.encode(some)
  t.deepEqual(await model.decode(latents), some)

  const file = join(await folder(t), 'model.safetensors')
  await model.save(file)
  await using loaded = await loadModel(file, { device: 'cpu' })
  t.deepEqual(loaded.config, config)
  t.deepEqual(await loaded.bitsPerDim(some), await model.bitsPerDim(some))
  t.deepEqual(await loaded.sample({ count: 2, seed: 3 }), await model.sample({ count: 2, seed: 3 }))
}

for (const prior of ['logistic', 'gaussian'] as const)
  for (const whitening of ['none', 'approximate', 'zca'] as const)
    test(`a NICE is trained, saved and loaded: ${prior}, ${whitening}`, async (t) => {
      const options = {
        imageSize: 8,
        channels: 1,
        hidden: 16,
        layers: 2,
        prior,
        whitening,
        device: 'cpu',
        seed: 1,
      } as const
      await using model = await createNice(options)
      t.is(model.initialized, whitening === 'none')
      const { device: _, ...given } = options
      t.deepEqual(model.config, { kind: 'nice', couplings: 4, bits: 8, precision: 'f32', ...given })
      await works(t, model)
      if (model.config.kind !== 'nice') return t.fail()
      await using again = await createNice({ ...model.config, device: 'cpu' })
      t.deepEqual(again.config, model.config)
    })

// Once the engine has the model: `test`.
test('a RealNVP is trained, saved and loaded', async (t) => {
  const options = { imageSize: 8, channels: 1, levels: 2, blocks: 1, hidden: 4, device: 'cpu', seed: 1 } as const
  await using model = await createRealNvp(options)
  t.true(model.initialized)
  const { device: _, ...given } = options
  t.deepEqual(model.config, { kind: 'realnvp', bits: 8, precision: 'f32', ...given })
  await works(t, model)
  await refuses(t, 'ERR_GLOW_OPTION', /Unknown option layers/, () =>
    createRealNvp({ ...options, layers: 4 } as RealNvpOptions),
  )
})

test('the MNIST model of the NICE paper has its parameters', (t) => {
  t.is(estimateMemory({ kind: 'nice', imageSize: 28, channels: 1 }).parameters, 19_158_352)
})

test('latents of a NICE are drawn from its prior', async (t) => {
  await using model = await createNice({ imageSize: 40, channels: 1, hidden: 4, layers: 1, device: 'cpu', seed: 1 })
  const latents = await model.encode({ ...slopes(0), count: 8, data: new Uint8Array(8 * 1600), height: 40, width: 40 })
  t.deepEqual(latents.scales, [{ offset: 0, shape: [1, 1, 1600], distribution: 'logistic' }])
  const meanSquare = ({ data }: { data: Float32Array }) =>
    data.reduce((sum, value) => sum + value ** 2, 0) / data.length
  const variance = (distribution: 'normal' | 'logistic') => {
    const scales = latents.scales.map((scale) => ({ ...scale, distribution }))
    return meanSquare(resample({ ...latents, scales }, { scales: [0], temperature: 1, seed: 2 }))
  }
  // Standard errors: 0.053 and 0.013.
  t.true(Math.abs(variance('logistic') - Math.PI ** 2 / 3) < 0.2)
  t.true(Math.abs(variance('normal') - 1) < 0.05)
})

test('the command line trains a NICE, says what it is, and refuses options of other kinds', async (t) => {
  const dir = await folder(t)
  const data = await idxFolder(dir, 64)
  const nice = ['--kind', 'nice', '--couplings', '3', '--layers', '1', '--hidden', '16']
  const run = ['--device', 'cpu', '--batch-size', '8', '--warmup', '0', '--out', 'run']
  const trained = await glowflow(['train', '--data', data, ...nice, ...run, '--steps', '3'], dir)
  t.is(trained.code, 0, trained.stderr)
  t.regex(trained.stderr, /NICE of \d+ weights/)
  const more = await glowflow(['train', '--resume', 'run', '--steps', '5'], dir)
  t.is(more.code, 0, more.stderr)
  t.regex(more.stderr, /NICE of \d+ weights .*from step 3/)

  const { stdout } = await glowflow(['info', '--model', 'run', '--device', 'cpu'], dir)
  t.regex(stdout, /^5 steps of training$/m)
  t.regex(stdout, /^kind nice$/m)
  t.regex(stdout, /^couplings\.\* +3 +1x1x64 /m)
  const planned = await glowflow(['info', ...nice, '--image-size', '8', '--channels', '1', '--json'])
  t.is(planned.code, 0, planned.stderr)
  t.is(JSON.parse(planned.stdout).memory.parameters, 3 * (33 * 16 + 17 * 32) + 64)

  const refused = await glowflow(['train', '--data', data, ...nice, '--depth', '3'], dir)
  t.is(refused.code, 2)
  t.regex(refused.stderr, /Expected no --depth for this kind of model/)
  const other = await glowflow(['info', '--image-size', '8', '--prior', 'gaussian'])
  t.is(other.code, 2)
  t.regex(other.stderr, /Expected no --prior for this kind of model/)
})
