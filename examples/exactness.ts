/**
 * Shows that a trained model gives every pixel back: affine Glows of K=32, L=3 after 500 steps on MNIST, one with each scale, asked
 * to encode and decode 1,000 test images in each precision that the device has. `npm run example -- examples/exactness.ts`
 */

import { createGlow, type GlowOptions } from 'glowflow'

import { mnist } from './mnist-data.ts'

const [steps, count] = [500, 1000]
const train = await mnist('train')
const images = await (await mnist('t10k')).batch([...Array(count).keys()])

for (const scale of ['sigmoid', 'bounded'] as const satisfies GlowOptions['scale'][]) {
  await using model = await createGlow({ imageSize: 32, channels: 1, depth: 32, hidden: 64, scale, seed: 1 })
  const { loss, seconds } = await model.train(train, { steps, batchSize: 16, seed: 1 }).finished
  console.log(`${scale}: ${steps} steps in ${seconds.toFixed(0)} seconds, ${loss.toFixed(2)} bits/dim`)
  for (const precision of model.device.precisions) {
    const { pixelMismatches, maxError, maxConditionNumber, worstLayer } = await model.verify(images, { precision })
    const error = `largest float error ${maxError.toExponential(1)}`
    console.log(`  ${precision}: ${pixelMismatches} of ${images.data.length} pixels came back different; ${error}`)
    console.log(`    largest condition number ${maxConditionNumber.toFixed(1)}, worst layer ${worstLayer}`)
    // bf16 is not for inverses.
    if (pixelMismatches > 0 && precision !== 'bf16') process.exitCode = 1
  }
}
console.log(`half a level of 8 bits is ${(1 / 512).toExponential(1)}`)
