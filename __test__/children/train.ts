/**
 * A run in a process of its own, to be killed: trains, or goes on from the newest checkpoint of the folder, and prints each step.
 * Arguments: the folder, the steps in all, `start` or `resume`, the step after which it kills itself.
 */

import { resumeTraining, type TrainOptions } from 'glowflow'

import { slopesData, tiny } from '../helpers.js'

const [folder = '', steps, how, killed] = process.argv.slice(2)
// 60 images and 3 batches of 7 a step: no step ends with an epoch, and the order is shuffled anew in the middle of some.
const data = slopesData(60)
const limit = { steps: Number(steps), evaluate: { data, every: 10, limit: 16 } }
const options: TrainOptions = {
  ...limit,
  batchSize: 7,
  accumulate: 3,
  initImages: 32,
  warmup: 5,
  seed: 5,
  ema: 0.9,
  augment: { flip: true, shift: 0.2 },
  optimizer: { name: 'adamax', weightDecay: 0.01 },
  checkpoint: { folder, every: 6, keep: 2 },
}

const { run } =
  how === 'resume' ? await resumeTraining(folder, data, limit) : { run: (await tiny()).train(data, options) }
for await (const event of run) {
  if (event.type === 'step-end') console.log(`step ${event.step}`)
  if (event.type === 'step-end' && event.step >= Number(killed)) process.kill(process.pid, 'SIGKILL')
  if (event.type === 'checkpoint-end') console.log(`checkpoint ${event.step}`)
}
