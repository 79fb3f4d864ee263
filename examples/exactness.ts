/**
 * Shows that a trained model gives every pixel back: an affine Glow of K=32, L=3 after 500 steps on MNIST, asked to encode and
 * decode 1,000 test images. `npm run example -- examples/exactness.ts`
 */

import { createGlow } from 'glowflow'

import { mnist } from './mnist-data.ts'

const [steps, count] = [500, 1000]
const train = await mnist('train')
const test = await mnist('t10k')

await using model = await createGlow({ imageSize: 32, channels: 1, levels: 3, depth: 32, hidden: 64, seed: 1 })
const run = model.train(train, { steps, batchSize: 16, warmup: 100, seed: 1 })
for await (const event of run) {
  if (event.type === 'step-end')
    process.stdout.write(`\rstep ${event.step} of ${steps}: ${event.loss.toFixed(2)} bits/dim `)
}
const { seconds } = await run.finished

const images = await test.batch([...Array(count).keys()])
const { pixelMismatches, maxError, maxConditionNumber, worstLayer } = await model.verify(images)
console.log(
  `\n${model.parameterCount} weights, ${steps} steps in ${seconds.toFixed(0)} seconds on ${model.device.label}`,
)
console.log(`${pixelMismatches} of ${images.data.length} pixels of ${count} test images came back different`)
console.log(`largest float error ${maxError.toExponential(1)}, where a pixel is 1/256 wide`)
console.log(`largest condition number ${maxConditionNumber.toFixed(0)}, worst layer ${worstLayer}`)
if (pixelMismatches > 0) process.exitCode = 1
