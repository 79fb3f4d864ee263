import { monitorEventLoopDelay } from 'node:perf_hooks'

import test from 'ava'
import { createGlow, imagesInMemory } from 'glowflow'

import { folder, slopes, slopesData } from './helpers.js'

/** Longest time, ms, that the event loop may be late: a step of the model below takes longer on any processor of today. */
const LATE = 150

test.serial('the event loop turns while a model trains and writes, and while calls are served', async (t) => {
  const dir = await folder(t)
  const images = slopes(256, { height: 32, width: 32, channels: 3 })
  const model = await createGlow({ imageSize: 32, levels: 3, depth: 8, hidden: 256, device: 'cpu', seed: 1 })
  const delay = monitorEventLoopDelay({ resolution: 5 })
  delay.enable()
  const run = model.train(imagesInMemory(images), {
    steps: 6,
    batchSize: 64,
    initImages: 32,
    checkpoint: { folder: `${dir}/checkpoints`, every: 2 },
    sample: { folder: `${dir}/samples`, every: 3, count: 4 },
  })
  const seen: string[] = []
  for await (const event of run) {
    seen.push(event.type)
    if (event.type === 'step-end') void model.sample({ count: 1 })
  }
  const summary = await run.finished
  delay.disable()
  const step = (1000 * summary.seconds) / summary.step
  const latest = delay.max / 1e6
  t.log(`steps of ${step.toFixed(0)} ms, the event loop at most ${latest.toFixed(1)} ms late`)
  t.true(seen.includes('checkpoint-end') && seen.includes('sample-end'))
  t.true(step > LATE, 'a blocked loop would be seen')
  t.true(latest < LATE)
})

test.serial('starting and reading a run costs the event loop little', async (t) => {
  const model = await createGlow({ imageSize: 8, channels: 1, levels: 1, depth: 1, hidden: 4, device: 'cpu' })
  const run = model.train(slopesData(64), { batchSize: 1, seconds: 1 })
  const delay = monitorEventLoopDelay({ resolution: 5 })
  delay.enable()
  let events = 0
  for await (const _ of run) events++
  delay.disable()
  t.true(events > 10)
  t.true(delay.max / 1e6 < LATE)
})
