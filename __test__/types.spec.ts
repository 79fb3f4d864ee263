import test from 'ava'
import * as api from 'glowflow'

import type * as contract from './contract.js'

// The compiler is the test: `npm run check` and the line below hold the package to the contract.
const functions: Omit<typeof contract, 'GlowError'> = api
const asContract = (error: api.GlowError): contract.GlowError => error
const isInstance: typeof contract.GlowError.isInstance = (value): value is contract.GlowError =>
  api.GlowError.isInstance(value)

/** Never called: what a type must refuse. */
export async function refused(model: api.FlowModel, data: api.Dataset): Promise<void> {
  // @ts-expect-error The image size is required.
  await api.createGlow({})
  // @ts-expect-error An option that does not exist.
  await api.createGlow({ imageSize: 32, hiden: 64 })
  // @ts-expect-error An option of another kind of model.
  await api.createNice({ imageSize: 32, depth: 8 })
  // @ts-expect-error An option of another kind of model.
  api.listLayers({ kind: 'realnvp', imageSize: 32, couplings: 8 })
  if (model.config.kind === 'nice') void model.config.couplings.toFixed()
  // @ts-expect-error Only a NICE has them.
  else void model.config.couplings
  // @ts-expect-error Latents are not images.
  await model.decode(await model.sample())
  // @ts-expect-error Evaluation needs data.
  model.train(data, { evaluate: { every: 10 } })
  const [train, rest] = data.split([0.9, 0.1])
  await model.evaluate(train)
  await model.evaluate(rest)
  // @ts-expect-error Two fractions make two parts.
  const [, , third] = data.split([0.9, 0.1])
  void third
  for await (const event of model.train(data)) {
    // @ts-expect-error Only some events have a loss.
    void event.loss
    if (event.type === 'step-end') void event.loss.toFixed()
  }
}

test('the package exports what the contract names and what the CHANGELOG adds, and nothing else', (t) => {
  t.deepEqual(Object.keys(api).toSorted(), [
    'GlowError',
    'addDirection',
    'celebA',
    'cifar10',
    'createGlow',
    'createNice',
    'createRealNvp',
    'customDataset',
    'directionFromJSON',
    'estimateMemory',
    'exportOnnx',
    'exportPyTorch',
    'idxFiles',
    'imageFolder',
    'imagesInMemory',
    'importPyTorch',
    'interpolateLatents',
    'listDevices',
    'listLayers',
    'loadDirections',
    'loadModel',
    'openDevice',
    'pngGrid',
    'presets',
    'readImages',
    'resample',
    'resumeTraining',
    'saveDirections',
    'writePlot',
    'writePngGrid',
  ])
  t.is(functions.createGlow, api.createGlow)
  t.false(isInstance(asContract))
})
