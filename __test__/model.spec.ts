import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

import test from 'ava'
import {
  createGlow,
  directionFromJSON,
  estimateMemory,
  type Images,
  listDevices,
  loadModel,
  openDevice,
} from 'glowflow'

import { folder, initialized, slopes, slopesData, tiny } from './helpers.js'

test('the CPU is listed and opens', async (t) => {
  const devices = await listDevices()
  const cpu = devices.find(({ name }) => name === 'cpu')
  t.is(cpu?.backend, 'flex')
  t.is(cpu?.precisions[0], 'f32')
  const device = await openDevice('cpu')
  t.is(device.name, 'cpu')
  await device.sync()
  const model = await createGlow({ imageSize: [8, 4], channels: 3, levels: 1, depth: 1, hidden: 4, device })
  t.is(model.device.name, 'cpu')
})

test('more calls at once than the queue holds, of one part and of several, give what each gives alone', async (t) => {
  const model = await initialized()
  const images = slopes(3)
  const alone = await model.encode(images)
  const calls = Array.from({ length: 150 }, (_, index) =>
    index % 3 === 0 ? model.encode(images, { batchSize: 1 }) : model.encode(images),
  )
  for (const latents of await Promise.all(calls)) t.deepEqual(latents.data, alone.data)
  // One that fails among them is that one's error.
  const wrong = model.decode({ ...alone, data: alone.data.map(() => Number.NaN) })
  const right = model.decode(alone)
  await t.throwsAsync(wrong, { code: 'ERR_GLOW_SHAPE' })
  t.deepEqual((await right).data, images.data)
})

test('the config has every option and builds the same model again', async (t) => {
  const model = await tiny({ edgeBias: true, coupling: 'additive', permutation: 'shuffle', seed: 7 })
  t.like(model.config, {
    kind: 'glow',
    imageSize: 8,
    channels: 1,
    levels: 2,
    depth: 2,
    hidden: 8,
    coupling: 'additive',
    permutation: 'shuffle',
    edgeBias: true,
    scale: 'sigmoid',
    learnTop: true,
    bits: 8,
    precision: 'f32',
    seed: 7,
  })
  const again = await createGlow({ ...model.config, device: 'cpu' })
  t.deepEqual(again.config, model.config)
  t.is(again.parameterCount, model.parameterCount)
  const images = slopes(16)
  await Promise.all([model.initialize(images), again.initialize(images)])
  t.deepEqual(await again.encode(images), await model.encode(images))
})

test('memory is estimated before anything is allocated', async (t) => {
  const cifar10 = estimateMemory({ imageSize: 32, edgeBias: true }, { batchSize: 16 })
  t.is(cifar10.parameters, 44_603_604)
  t.true(cifar10.constant < cifar10.inputs && cifar10.inputs < cifar10.stored)
  t.true(estimateMemory({ imageSize: 32, edgeBias: true }, { batchSize: 32 }).stored > cifar10.stored)
  const model = await tiny()
  t.is(estimateMemory(model.config).parameters, model.parameterCount)
  t.throws(() => estimateMemory({ imageSize: 30 }, {}), { message: /imageSize/ })
})

test('without a seed one is drawn and kept', async (t) => {
  const [one, other] = await Promise.all([tiny({ seed: undefined }), tiny({ seed: undefined })])
  t.true(Number.isSafeInteger(one.config.seed))
  t.not(one.config.seed, other.config.seed)
})

test('a model is initialized from images, then encodes and decodes to the pixel', async (t) => {
  const model = await tiny()
  t.false(model.initialized)
  t.is(model.step, 0)
  const images = slopes(5)
  await model.initialize(images)
  t.true(model.initialized)
  const latents = await model.encode(images)
  t.is(latents.count, 5)
  t.is(latents.dims, 64)
  t.is(latents.data.length, 5 * 64)
  t.deepEqual(latents.scales, [
    { offset: 0, shape: [4, 4, 2] },
    { offset: 32, shape: [2, 2, 8] },
  ])
  t.deepEqual(await model.decode(latents), images)
  const floats = await model.decodeFloat(latents)
  t.true(floats.data.every((value, index) => Math.abs(value - images.data[index]! - 0.5) < 0.1))
})

test('float images are encoded as they are', async (t) => {
  const model = await initialized()
  const images = slopes(3)
  const middle = { ...images, data: Float32Array.from(images.data, (value) => value + 0.5) }
  t.deepEqual(await model.encode(middle), await model.encode(images))
  const given = new Float32Array(images.data.length).fill(0.5)
  t.deepEqual(await model.encode(images, { dequantize: given }), await model.encode(images))
})

test('likelihoods are in nats, bits per dimension follow from them', async (t) => {
  const model = await initialized()
  const images = slopes(4)
  const logProb = await model.logProb(images, { seed: 3 })
  const bits = await model.bitsPerDim(images, { seed: 3 })
  t.is(logProb.length, 4)
  bits.forEach((value, index) => t.true(Math.abs(value + logProb[index]! / (64 * Math.LN2)) < 1e-12))
  t.deepEqual(await model.logProb(images, { seed: 3 }), logProb)
  const several = await model.logProb(images, { seed: 3, draws: 4 })
  t.is(several.length, 4)
})

test('evaluation scores as many images as asked for', async (t) => {
  const model = await initialized()
  const data = slopesData(20)
  const all = await model.evaluate(data)
  t.is(all.images, 20)
  t.true(all.bitsPerDim > 0 && all.standardError > 0)
  t.is((await model.evaluate(data, { limit: 7, batchSize: 3 })).images, 7)
})

test('samples are drawn by seed and do not depend on the batch size', async (t) => {
  const model = await initialized()
  const options = { count: 5, seed: 11, temperature: 0.9 }
  const images = await model.sample(options)
  t.like(images, { count: 5, height: 8, width: 8, channels: 1 })
  t.deepEqual(await model.sample({ ...options, batchSize: 2 }), images)
  t.is((await model.sample()).count, 1)
})

test('an interpolation starts and ends with the images themselves', async (t) => {
  const model = await initialized()
  const images = slopes(2)
  const from: Images = { ...images, count: 1, data: images.data.subarray(0, 64) }
  const to: Images = { ...images, count: 1, data: images.data.subarray(64) }
  for (const path of ['linear', 'spherical'] as const) {
    const frames = await model.interpolate(from, to, { frames: 5, path })
    t.is(frames.count, 5)
    t.deepEqual(frames.data.slice(0, 64), from.data)
    t.deepEqual(frames.data.slice(4 * 64), to.data)
  }
})

test('a direction moves images and survives JSON', async (t) => {
  const model = await initialized()
  const data = slopesData(40)
  const [all, first] = [await data.batch([...Array(40).keys()]), await data.batch([0])]
  const of = (label: number): Images => {
    const indices = [...all.labels!.keys()].filter((index) => all.labels![index] === label)
    const pixels = indices.flatMap((index) => [...all.data.subarray(index * 64, (index + 1) * 64)])
    return { ...all, count: indices.length, data: Uint8Array.from(pixels) }
  }
  const direction = await model.direction(of(1), of(0))
  t.is(direction.dims, 64)
  const again = directionFromJSON(JSON.parse(JSON.stringify(direction)))
  t.deepEqual(again.data, direction.data)
  const shifted = await model.shift(first, again, { amounts: [0, 0.5, 1] })
  t.is(shifted.count, 3)
  t.deepEqual(shifted.data.slice(0, 64), first.data)
})

test('verify finds no pixel that differs', async (t) => {
  const model = await initialized()
  const verification = await model.verify(slopes(6))
  t.is(verification.pixelMismatches, 0)
  t.true(verification.maxError < 0.1)
  t.true(verification.maxConditionNumber >= 1)
  t.is(typeof verification.worstLayer, 'string')
})

test('a model is saved whole and loads to the same numbers', async (t) => {
  const dir = await folder(t)
  const file = join(dir, 'model.safetensors')
  const model = await initialized()
  await writeFile(file, 'what was there before')
  await model.save(file)
  t.deepEqual(await readdir(dir), ['model.safetensors'])
  const again = await loadModel(pathToFileURL(file), { device: 'cpu' })
  t.deepEqual(again.config, model.config)
  t.true(again.initialized)
  const images = slopes(3)
  t.deepEqual(await again.encode(images), await model.encode(images))
  t.true((await stat(file)).size < 1e6)
  t.true((await readFile(file)).subarray(8).toString('latin1').startsWith('{'))
})

test('arrays are copied before a call returns, views are honoured', async (t) => {
  const model = await initialized()
  const images = slopes(4)
  const expected = await model.encode(images)
  const larger = new Uint8Array(images.data.length + 24)
  larger.set(images.data, 13)
  const view = larger.subarray(13, 13 + images.data.length)
  const encoding = model.encode({ ...images, data: view })
  larger.fill(0)
  t.deepEqual(await encoding, expected)

  const rows = { ...expected, data: expected.data.slice() }
  const decoding = model.decode(rows)
  rows.data.fill(0)
  t.deepEqual(await decoding, images)
})

test('an image gives the same numbers alone and in any batch', async (t) => {
  const model = await initialized()
  const images = slopes(7)
  const together = await model.encode(images)
  const parts = await model.encode(images, { batchSize: 3 })
  t.deepEqual(parts, together)
  const alone = await model.encode({ ...images, count: 1, data: images.data.slice(6 * 64) })
  t.deepEqual(alone.data, together.data.slice(6 * 64))
})

test('a signal rejects with its reason, before and during a call', async (t) => {
  const model = await initialized({ depth: 8, hidden: 64 })
  const reason = new Error('no longer needed')
  const images = slopes(256)
  await t.throwsAsync(model.encode(images, { signal: AbortSignal.abort(reason) }), { is: reason })
  const controller = new AbortController()
  const call = model.encode(images, { signal: controller.signal, batchSize: 1 })
  controller.abort(reason)
  await t.throwsAsync(call, { is: reason })
  t.is((await model.encode(slopes(1), { signal: new AbortController().signal })).count, 1)
})

test('await using disposes of a model', async (t) => {
  const model = await initialized()
  await model[Symbol.asyncDispose]()
  await model.dispose()
  await t.throwsAsync(model.sample(), { message: /disposed/ })
})

test('a model trained on a GPU, or a software one, is saved there and loads on the CPU', async (t) => {
  const gpu = (await listDevices()).find(({ backend }) => backend !== 'flex')
  if (!gpu) {
    console.log(`skipped: ${t.title} (no Vulkan driver)`)
    return t.not(process.env['GLOWFLOW_REQUIRE'], 'vulkan')
  }
  const file = join(await folder(t), 'model')
  const model = await tiny({ device: gpu.name })
  await model.train(slopesData(32), { steps: 3, batchSize: 8, initImages: 16 }).finished
  await model.save(file)
  const onCpu = await loadModel(file, { device: 'cpu' })
  t.is(onCpu.step, 3)
  const images = slopes(2)
  const [there, here] = await Promise.all([model.encode(images), onCpu.encode(images)])
  t.true(there.data.every((value, index) => Math.abs(value - here.data[index]!) < 1e-3))
  return t.deepEqual(await model.decode(there), images)
})
