/** glowflow as a child of the bench. */

import { readFile } from 'node:fs/promises'

import { createGlow, type FlowModel, type Images, imagesInMemory, loadModel } from 'glowflow'

import { serve, type Spec, timed } from './child.ts'

const spec: Spec = JSON.parse(process.argv[2]!)
const { levels, depth, hidden, batch, precision, device = 'cpu' } = spec
const images = await readImages(spec.images)

export async function readImages(file: string): Promise<Images> {
  const data = new Uint8Array(await readFile(file))
  return { data, count: data.length / 3072, height: 32, width: 32, channels: 3 }
}

/** Steps of one run, timed from the end of its first one. */
function training(model: FlowModel): (times: number) => Promise<number> {
  const data = imagesInMemory(images)
  return async (times) => {
    const { activations = 'stored' } = spec
    const run = model.train(data, { steps: model.step + times + 1, batchSize: batch, warmup: 100, activations })
    let start: { at: number; step: number } | undefined
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

if (spec.task === 'train') {
  const model = await createGlow({ imageSize: 32, levels, depth, hidden, precision, seed: 1, device })
  await serve(training(model))
} else {
  const model = await loadModel(`${spec.model}.safetensors`, { device })
  const part = { ...images, data: images.data.subarray(0, 3072 * batch), count: batch }
  const latents = await model.encode(part)
  const call =
    spec.task === 'encode' ? () => model.encode(part, { precision }) : () => model.decodeFloat(latents, { precision })
  await serve((times) => timed(times, call))
}
