/**
 * Writes a checkpoint that the limit on file sizes lets through, then goes on with a model that is too large for it. Argument: the
 * folder.
 */

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

import { GlowError, type FlowModel } from 'glowflow'

import { slopesData, tiny } from '../helpers.js'

const [folder = ''] = process.argv.slice(2)
const data = slopesData(64)

async function train(model: FlowModel, steps: number): Promise<void> {
  const run = model.train(data, { steps, batchSize: 8, warmup: 0, checkpoint: { folder, every: 4 } })
  for await (const event of run) {
    if (event.type === 'checkpoint-end') console.log(`small ${event.step}`)
    if (event.type === 'warning') console.log(`${event.code} ${event.step}`)
  }
}

await train(await tiny(), 4)
const large = await tiny({ hidden: 64 })
await large.train(data, { steps: 4, batchSize: 8, warmup: 0 }).finished
await train(large, 10).catch((error: unknown) => console.log(GlowError.isInstance(error) ? error.code : error))
console.log(`latest ${await readFile(join(folder, 'latest'), 'utf8')}`)
