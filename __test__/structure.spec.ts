import test from 'ava'
import { createGlow, estimateMemory, listLayers } from 'glowflow'

import { refuses } from './helpers.js'

test('the layers of a model are listed before it is made', async (t) => {
  const options = { imageSize: [8, 16], channels: 1, levels: 2, depth: 3, hidden: 4 } as const
  const layers = listLayers(options)
  t.deepEqual(layers.slice(0, 3), [
    { path: 'levels.0.squeeze', shape: [4, 8, 4], parameters: 0 },
    { path: 'levels.0.steps.0.mix.actnorm', shape: [4, 8, 4], parameters: 8 },
    { path: 'levels.0.steps.0.mix.permutation', shape: [4, 8, 4], parameters: 16 },
  ])
  t.is(layers.length, 2 * (1 + 3 * 3) + 2)
  t.is(layers.at(-1)?.path, 'top')
  const parameters = layers.reduce((sum, layer) => sum + layer.parameters, 0)
  t.is(parameters, estimateMemory(options).parameters)
  const model = await createGlow({ ...options, device: 'cpu' })
  t.is(parameters, model.parameterCount)
  t.deepEqual(listLayers(model.config), layers)
  await refuses(t, 'ERR_GLOW_OPTION', /levels/, () => listLayers({ ...options, levels: 9 }))
})
