/** glowflow as a child of the bench. */

import { readFile } from 'node:fs/promises'

import { createGlow, type FlowModel, type Images, imagesInMemory, loadModel } from 'glowflow'

import { serve, type Spec, timed } from './child.ts'

const spec: Spec = JSON.parse(process.argv[2]!)
const { size = 32, levels, depth, hidden, batch, precision, device = 'cpu' } = spec
const images = await readImages(spec.images)

async function readImages(file: string): Promise<Images> {
  const data = new Uint8Array(await readFile(file))
  const count = Math.floor(data.length / (3 * size ** 2))
  return { data: data.subarray(0, 3 * size ** 2 * count), count, height: size, width: size, channels: 3 }
}

/** Steps of one run; on the CPU timed from the end of its first one. */
function training(model: FlowModel): (times: number) => Promise<number> {
  const data = imagesInMemory(images)
  const { activations = 'stored' } = spec
  // The peers' rate: each run begins Adam anew, and a larger one would throw the weights about.
  const options = { batchSize: batch, optimizer: { learningRate: 1e-4 }, warmup: 100, activations }
  return async (times) => {
    const from = performance.now()
    // What a GPU's steps have found is read ten at a time: only the whole run has a length.
    const run = model.train(data, { ...options, steps: model.step + times + (device === 'cpu' ? 1 : 0) })
    let start = device === 'cpu' ? undefined : { at: from, step: model.step }
    let seconds = 0
    let steps = 0
    for await (const event of run) {
      if (event.type !== 'step-end') continue
      const at = performance.now()
      start ??= { at, step: event.step }
      seconds = (at - start.at) / 1000
      steps = event.step - start.step
    }
    return (seconds / steps) * times
  }
}

const newModel = () => createGlow({ imageSize: size, levels, depth, hidden, precision, seed: 1, device })

if (spec.task === 'train') {
  await serve(training(await newModel()))
} else {
  const model = spec.model ? await loadModel(`${spec.model}.safetensors`, { device }) : await newModel()
  const part = { ...images, data: images.data.subarray(0, 3 * size ** 2 * batch), count: batch }
  if (!spec.model) await model.initialize(imagesInMemory(part))
  const latents = await model.encode(part)
  const call =
    spec.task === 'encode' ? () => model.encode(part, { precision }) : () => model.decodeFloat(latents, { precision })
  await serve((times) => timed(times, call))
}
