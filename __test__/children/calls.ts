/** A server's many calls in a process of its own: prints the resident bytes after some of them and after many more. */

import { createGlow, imagesInMemory } from 'glowflow'

import { slopes } from '../helpers.js'

const images = slopes(8, { height: 16, width: 16, channels: 3 })
await using model = await createGlow({ imageSize: 16, levels: 2, depth: 4, hidden: 64, device: 'cpu' })
await model.initialize(imagesInMemory(images))

async function calls(times: number): Promise<number> {
  for (let time = 0; time < times; time++) {
    const latents = await model.encode(images)
    await model.decodeFloat(latents)
    await model.bitsPerDim(images)
  }
  globalThis.gc!()
  return process.memoryUsage().rss
}

// V8 lets its own heap grow by some 30 MB in the first few thousand calls, whatever they do.
const early = await calls(6000)
process.stdout.write(`${JSON.stringify({ early, late: await calls(2000) })}\n`)
