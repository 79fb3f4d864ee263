/** Nets in fewer bits: what a call takes without asking, and what is refused. */

import test from 'ava'
import { createNice, type FlowModel, loadModel, type Precision, resumeTraining } from 'glowflow'

import { folder, initialized, refuses, slopes, slopesData, tiny } from './helpers.js'

/** What this processor has beside f32. */
async function others(log: (line: string) => void): Promise<readonly Precision[]> {
  const { precisions } = (await tiny()).device
  for (const precision of ['bf16x3', 'bf16'] as const)
    if (!precisions.includes(precision)) log(`skipped: this processor lacks ${precision}`)
  return precisions.filter((precision) => precision !== 'f32')
}

const images = slopes(8)
const latents = async (model: FlowModel, precision?: Precision) =>
  (await model.encode(images, { ...(precision && { precision }) })).data
const bits = (model: FlowModel, precision?: Precision) => model.bitsPerDim(images, { ...(precision && { precision }) })

test('likelihoods are in the precision of the model, calls that need the inverse in f32', async (t) => {
  for (const precision of await others(t.log)) {
    const model = await trained(precision)
    t.is(model.config.precision, precision)
    t.deepEqual(await latents(model), await latents(model, 'f32'))
    t.notDeepEqual(await latents(model), await latents(model, precision))
    t.deepEqual(await bits(model), await bits(model, precision))
    t.notDeepEqual(await bits(model), await bits(model, 'f32'))
  }
  t.pass()
})

test('a file has no precision, a run has', async (t) => {
  const at = await folder(t)
  for (const precision of await others(t.log)) {
    const [file, run] = [`${at}/${precision}.safetensors`, `${at}/${precision}`]
    const model = await tiny({ precision })
    await model.train(slopesData(64), { steps: 3, batchSize: 8, folder: run }).finished
    await model.save(file)
    t.is((await loadModel(file)).config.precision, 'f32')
    t.deepEqual(await bits(await loadModel(file, { precision })), await bits(model))
    const resumed = await resumeTraining(run, slopesData(64), { steps: 5 })
    t.is(resumed.model.config.precision, precision)
    t.is((await resumed.run.finished).step, 5)
  }
  t.pass()
})

test('what the processor or the model lacks is refused', async (t) => {
  const unsupported = 'ERR_GLOW_PRECISION_UNSUPPORTED'
  const nice = { imageSize: 8, layers: 1, hidden: 4, device: 'cpu' } as const
  const words = /f32 for the precision of a NICE model but received bf16/
  const error = await refuses(t, unsupported, words, () => createNice({ ...nice, precision: 'bf16' }))
  t.deepEqual(error?.details['precisions'], ['f32'])
  const model = await createNice(nice)
  await refuses(t, unsupported, words, () => model.encode(images, { precision: 'bf16' }))
  const { precisions } = (await initialized()).device
  for (const precision of (['bf16x3', 'bf16'] as const).filter((one) => !precisions.includes(one)))
    await refuses(t, unsupported, /for the precision of a model on CPU/, () => tiny({ precision }))
})

async function trained(precision: Precision): Promise<FlowModel> {
  const model = await tiny({ precision })
  await model.train(slopesData(64), { steps: 20, batchSize: 16, warmup: 0 }).finished
  return model
}
