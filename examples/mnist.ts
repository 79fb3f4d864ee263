/**
 * Trains a small Glow on MNIST and shows what it has learned; `npm start` runs it.
 *
 * runs/mnist is made anew: a second run replaces the files of the first. Ctrl-C ends the training after the step under way and
 * goes on with the weights of that step, a second Ctrl-C ends the program.
 */

import { rm } from 'node:fs/promises'
import { join } from 'node:path'

import { createGlow, presets, type TrainSummary, writePngGrid } from 'glowflow'

import { image } from './images.ts'
import { mnist, ofClass } from './mnist-data.ts'
import { showProgress } from './progress.ts'

const preset = presets.mnist
const { seconds = Infinity, batchSize = 64 } = preset.train

const folder = join('runs', 'mnist')
await rm(folder, { recursive: true, force: true })

const [train, heldOut] = (await mnist('train')).split([0.98, 0.02])
const test = await mnist('t10k')

await using model = await createGlow({ ...preset.model, seed: 1 })
const { depth, levels, hidden } = model.config
console.log(
  `Glow of ${model.parameterCount} weights (K=${depth}, L=${levels}, width ${hidden}) on ${model.device.label}`,
)
console.log(`${train.length} training images, ${heldOut.length} held out, ${seconds} seconds, into ${folder}`)

const evaluate = { data: heldOut, every: 500, limit: 500 }
const run = model.train(train, { ...preset.train, seed: 1, folder, evaluate, sample: { every: 500 } })
process.once('SIGINT', () => void run.stop())

const progress = showProgress(seconds)
for await (const event of run) progress.tell(event)
progress.end()
report(await run.finished)

await model.save(join(folder, 'model.safetensors'))
await picture('interpolation', interpolate)
await picture('shifted digit', shift)
console.log(`Pictures, metrics, loss.png and the model are in ${folder}`)

const { bitsPerDim, images } = await model.evaluate(test)
const bits = (bitsPerDim * 32 * 32) / (28 * 28)
console.log(
  `${bits.toFixed(3)} bits for each of the 784 pixels before padding (the total over 32x32 values, divided by 784; ` +
    `not the published figure, which is of a model of 28x28 images)`,
)
console.log(`test ${bitsPerDim.toFixed(3)} bits/dim (${images} images)`)

function report({ step, reason, seconds: taken }: TrainSummary): void {
  const steps = (step * batchSize) / train.length
  console.log(`${reason} after ${step} steps (${steps.toFixed(1)} epochs) and ${taken.toFixed(0)} seconds`)
}

/** A young model may not invert everywhere; that is said, and the rest goes on. */
async function picture(name: string, make: () => Promise<void>): Promise<void> {
  try {
    await make()
  } catch (error) {
    console.error(`No ${name}: ${error instanceof Error ? error.message : error}`)
    process.exitCode = 1
  }
}

/** Held-out digits that become others; the first and the last of each row are the digits themselves. */
async function interpolate(): Promise<void> {
  const frames = 10
  const from = await heldOut.batch([0, 1, 2, 3])
  const to = await heldOut.batch([4, 5, 6, 7])
  const strip = await model.interpolate(from, to, { frames })
  for (let row = 0; row < from.count; row++) {
    expectSame(image(strip, row * frames), image(from, row))
    expectSame(image(strip, (row + 1) * frames - 1), image(to, row))
  }
  await writePngGrid(join(folder, 'interpolation.png'), strip, { columns: frames })
}

/** Threes moved along the direction from the mean three to the mean eight; the first of each row is the three itself. */
async function shift(): Promise<void> {
  const some = await train.batch([...Array(6000).keys()])
  const direction = await model.direction(ofClass(some, 8), ofClass(some, 3))
  const amounts = [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5]
  const threes = ofClass(await heldOut.batch([...Array(100).keys()]), 3, 4)
  const strip = await model.shift(threes, direction, { amounts })
  for (let row = 0; row < threes.count; row++) expectSame(image(strip, row * amounts.length), image(threes, row))
  await writePngGrid(join(folder, 'shift-3-to-8.png'), strip, { columns: amounts.length })
}

function expectSame(left: Uint8Array, right: Uint8Array): void {
  if (Buffer.compare(left, right) !== 0) throw new Error('An image did not come back pixel for pixel')
}
