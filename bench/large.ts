/** One step of the 256x256 model of the paper, K=32, L=6, additive, 5 bits, at batch 1, activations rebuilt: a line of JSON. */

import { readFileSync } from 'node:fs'

import { createGlow, imagesInMemory } from 'glowflow'

const size = 256
const count = 4
// Nothing but that it varies matters.
const data = Uint8Array.from({ length: count * size * size * 3 }, (_, at) => (at * 2654435761) >>> 24)
await using model = await createGlow({
  imageSize: size,
  levels: 6,
  depth: 32,
  coupling: 'additive',
  bits: 5,
  device: 'cpu',
  seed: 1,
})
const run = model.train(imagesInMemory({ data, count, height: size, width: size, channels: 3 }), {
  steps: 3,
  batchSize: 1,
  initImages: 1,
  activations: 'constant',
})
const ends: number[] = []
for await (const event of run) if (event.type === 'step-end') ends.push(performance.now())
const status = readFileSync('/proc/self/status', 'utf8')
const bytes = 1024 * Number(/VmHWM:\s+(\d+) kB/.exec(status)![1])
process.stdout.write(
  `${JSON.stringify({ parameters: model.parameterCount, seconds: (ends[2]! - ends[1]!) / 1000, bytes })}\n`,
)
