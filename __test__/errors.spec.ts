import { execFile } from 'node:child_process'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import test from 'ava'
import {
  createGlow,
  createNice,
  directionFromJSON,
  listLayers,
  estimateMemory,
  GlowError,
  idxFiles,
  imagesInMemory,
  type Latents,
  loadModel,
  openDevice,
  pngGrid,
  writePlot,
  writePngGrid,
} from 'glowflow'

import { folder, initialized, refuses, slopes, slopesData, tiny } from './helpers.js'

/** What a program in plain JavaScript might pass. */
const any = <T>(value: unknown): T => value as T

test('a GlowError has a code, a sentence and details, and is known across copies of the package', async (t) => {
  const error = await refuses(t, 'ERR_GLOW_OPTION', /^Expected a multiple of 8 .*for imageSize but received 30$/, () =>
    createGlow({ imageSize: 30 }),
  )
  t.is(error.name, 'GlowError')
  t.true(error instanceof Error)
  t.like(error.details, { option: 'imageSize', received: '30' })
  t.false(GlowError.isInstance(new Error('another')))
  t.false(GlowError.isInstance(null))
  const foreign = Object.assign(new Error('of another copy'), { [Symbol.for('glowflow.GlowError')]: true })
  t.true(GlowError.isInstance(foreign))
})

test('every invalid option is named, the unknown one with the closest known', async (t) => {
  const error = await refuses(t, 'ERR_GLOW_OPTION', /Unknown option hiden, the closest known one is hidden/, () =>
    createGlow(any({ imageSize: 30, hiden: 64, depth: 1.5, coupling: 'afine', edgeBias: 'yes', bits: 9 })),
  )
  const problems = error.details['problems'] as { option: string; expected: string; received: string }[]
  t.deepEqual(problems.map(({ option }) => option).toSorted(), [
    'bits',
    'coupling',
    'depth',
    'edgeBias',
    'hiden',
    'imageSize',
  ])
  for (const { option } of problems) t.true(error.message.includes(option), option)
})

test('options of a model', async (t) => {
  const bad = (words: RegExp, options: object) =>
    refuses(t, 'ERR_GLOW_OPTION', words, () =>
      createGlow(any({ imageSize: 8, levels: 1, depth: 1, hidden: 4, device: 'cpu', ...options })),
    )
  await bad(/imageSize but received undefined/, { imageSize: undefined })
  await bad(/imageSize/, { imageSize: 8.5 })
  await bad(/imageSize/, { imageSize: [8, 7] })
  await bad(/imageSize/, { imageSize: 2 ** 20 })
  await bad(/channels/, { channels: 2 })
  await bad(/levels/, { levels: 0 })
  await bad(/seed/, { seed: -1 })
  await bad(/seed/, { seed: 2 ** 53 })
  await bad(/device/, { device: 'tpu' })
  await bad(/device/, { device: { name: 'cpu' } })
  await bad(/Unknown option clases, the closest known one is classes/, { clases: 10 })
  await refuses(t, 'ERR_GLOW_OPTION', /an object for options but received null/, () => createGlow(any(null)))
  await refuses(t, 'ERR_GLOW_OPTION', /an object for options but received undefined/, () => createGlow(any(undefined)))
  await bad(/'f32' or 'bf16x3' or 'bf16' for precision but received 'f64'/, { precision: 'f64' })
})

test('options of another kind of model are refused by name', async (t) => {
  const bad = (words: RegExp, call: () => unknown) => refuses(t, 'ERR_GLOW_OPTION', words, call)
  await bad(/Unknown option depth/, () => createNice(any({ imageSize: 8, depth: 4 })))
  await bad(/Unknown option whitening/, () => createGlow(any({ imageSize: 8, whitening: 'zca' })))
  await bad(/'nice' for kind but received 'glow'/, () => createNice(any({ imageSize: 8, kind: 'glow' })))
  await bad(/'glow' or 'realnvp' or 'nice' for kind but received 'nica'/, () =>
    listLayers(any({ imageSize: 8, kind: 'nica' })),
  )
  await bad(/Unknown option levels/, () => estimateMemory(any({ imageSize: 8, kind: 'nice', levels: 2 })))
  await bad(/an even number of values, for two halves for imageSize but received 3/, () =>
    createNice({ imageSize: 3, channels: 1 }),
  )
  await bad(/couplings/, () => createNice({ imageSize: 8, couplings: 0 }))
  await bad(/layers/, () => createNice({ imageSize: 8, layers: 65 }))
  await bad(/'logistic' or 'gaussian' for prior/, () => createNice(any({ imageSize: 8, prior: 'normal' })))
  await bad(/for images of more than 4096 values for whitening/, () =>
    createNice({ imageSize: 64, channels: 3, whitening: 'zca' }),
  )
})

test('a device that is not there is named and never replaced', async (t) => {
  const error = await refuses(t, 'ERR_GLOW_DEVICE_UNAVAILABLE', /gpu:99/, () => openDevice('gpu:99'))
  t.is(error.details['device'], 'gpu:99')
  await refuses(t, 'ERR_GLOW_DEVICE_UNAVAILABLE', /gpu:98/, () => tiny({ device: 'gpu:98' }))
  await refuses(t, 'ERR_GLOW_OPTION', /name/, () => openDevice(any('quantum')))
})

test('work that cannot fit is refused before anything is allocated', async (t) => {
  await refuses(t, 'ERR_GLOW_OUT_OF_MEMORY', /memory/, () =>
    createGlow({ imageSize: 4096, levels: 10, depth: 1024, hidden: 8192, device: 'cpu' }),
  )
})

test('options of calls', async (t) => {
  const model = await initialized()
  const images = slopes(2)
  const bad = (words: RegExp, call: () => unknown) => refuses(t, 'ERR_GLOW_OPTION', words, call)
  await bad(/Unknown option batchsize, the closest known one is batchSize/, () =>
    model.encode(images, any({ batchsize: 3 })),
  )
  await bad(/batchSize/, () => model.encode(images, { batchSize: 0 }))
  await bad(/signal/, () => model.encode(images, any({ signal: {} })))
  await bad(/dequantize/, () => model.encode(images, any({ dequantize: 'gaussian' })))
  await bad(/draws/, () => model.logProb(images, { draws: 0 }))
  await bad(/options/, () => model.sample(any(null)))
  await bad(/count/, () => model.sample({ count: 0 }))
  await bad(/count/, () => model.sample({ count: 2 ** 32 }))
  await bad(/temperature/, () => model.sample({ temperature: Number.NaN }))
  await bad(/temperature/, () => model.sample({ temperature: -1 }))
  await bad(/frames/, () => model.interpolate(images, images, { frames: 1 }))
  await bad(/path/, () => model.interpolate(images, images, any({ path: 'scenic' })))
  await bad(/amounts/, () =>
    model.shift(images, { data: new Float32Array(64), dims: 64, toJSON: any(null) }, { amounts: [Infinity] }),
  )
  await bad(/limit/, () => model.evaluate(slopesData(4), { limit: 0 }))
  await bad(/data/, () => model.evaluate(any(images)))
  await bad(/data/, () => model.initialize(any({})))
  await bad(/path|file/, () => model.save(''))
  await bad(/path|file/, () => model.save(any(3)))
  await bad(/path/, () => loadModel(new URL('https://example.org/model')))
  await bad(/json/, () => directionFromJSON(any({ format: 'something', version: 1, dims: 2, data: '' })))
  await bad(/json/, () => directionFromJSON(any(null)))
  await bad(/json/, () => directionFromJSON({ format: 'glowflow-direction', version: 1, dims: 2 ** 31, data: 'AAAA' }))
})

test('options of training are thrown at once, every one of them', async (t) => {
  const model = await tiny()
  const data = slopesData(16)
  const error = await refuses(t, 'ERR_GLOW_OPTION', /batchSize/, () =>
    model.train(
      data,
      any({
        batchSize: 0,
        steps: 1.5,
        optimizer: { learningRate: -1, beta: 2 },
        evaluate: { every: 3 },
        checkpoint: { folder: 'x', every: 0 },
        schedule: 'cosine',
        activations: 'none',
        warmUp: 3,
      }),
    ),
  )
  const options = (error.details['problems'] as { option: string }[]).map(({ option }) => option)
  for (const option of [
    'batchSize',
    'steps',
    'optimizer.learningRate',
    'optimizer.beta',
    'evaluate.data',
    'checkpoint.every',
    'activations',
    'warmUp',
  ])
    t.true(options.includes(option), option)
  t.throws(() => model.train(any({})), { message: /Dataset for data/ })
  t.throws(() => model.train(data, { schedule: 'cosine' }), { message: /limit/ })
  const other = imagesInMemory(slopes(4, { height: 4 }))
  await refuses(t, 'ERR_GLOW_SHAPE', /8x8x1 but received 4x8x1/, () => model.train(other, { steps: 1 }).finished)
})

test('images and latents of wrong sizes', async (t) => {
  const model = await initialized()
  const images = slopes(2)
  const shape = (words: RegExp, call: () => unknown) => refuses(t, 'ERR_GLOW_SHAPE', words, call)
  await shape(/8x8x1.*received.*4x8x1/, () => model.encode(slopes(2, { height: 4 })))
  await shape(/images.data of 3 x 8x8x1 = 192 values but received 128/, () => model.encode({ ...images, count: 3 }))
  const latents = await model.encode(images)
  await shape(/latents.data of 3 x 64 = 192 values but received 128/, () => model.decode({ ...latents, count: 3 }))
  await shape(/latents/, () => model.decode({ ...latents, dims: 32, count: 4 }))
  await shape(/64.*received 32/, () => model.shift(images, { data: new Float32Array(32), dims: 32, toJSON: any(null) }))
  await shape(/noise|dequantize/i, () => model.encode(images, { dequantize: new Float32Array(3) }))
  await shape(/received/, () => model.interpolate(images, slopes(3)))
  await shape(/received/, () => model.evaluate(imagesInMemory(slopes(2, { channels: 3 }))))
  const bad = (words: RegExp, call: () => unknown) => refuses(t, 'ERR_GLOW_OPTION', words, call)
  await bad(/images.count/, () => model.encode({ ...images, count: 0, data: new Uint8Array() }))
  await bad(/images.width/, () => model.encode({ ...images, width: 0.5 }))
  await bad(/images.data/, () => model.encode(any({ ...images, data: [...images.data] })))
  await bad(/images.data/, () => model.encode(any({ ...images, data: new Uint8ClampedArray(images.data) })))
  await bad(/images/, () => model.encode(any(undefined)))
  await bad(/latents.data/, () => model.decode(any({ ...latents, data: new Float64Array(latents.data) })))
  await bad(/images.data/, () => pngGrid(any({ ...images, data: new Float32Array(images.data) })))
  await bad(/columns/, () => pngGrid(images, { columns: 0 }))
  await bad(/background/, () => pngGrid(images, any({ background: [1, 2, 300] })))
  await bad(/points/, () => writePlot('plot.svg', any({ series: [{ points: [[1]] }] })))
})

test('shared and detached arrays are refused', async (t) => {
  const model = await initialized()
  const images = slopes(2)
  const shared = new Uint8Array(new SharedArrayBuffer(images.data.length))
  await refuses(t, 'ERR_GLOW_OPTION', /images.data.*not shared|not shared.*images.data/, () =>
    model.encode({ ...images, data: shared }),
  )
  await refuses(t, 'ERR_GLOW_OPTION', /not shared/, () => imagesInMemory({ ...images, data: shared }))
  const latents: Latents = await model.encode(images)
  const floats = new Float32Array(new SharedArrayBuffer(latents.data.byteLength))
  await refuses(t, 'ERR_GLOW_OPTION', /not shared/, () => model.decode({ ...latents, data: floats }))
  structuredClone(images.data, { transfer: [images.data.buffer as ArrayBuffer] })
  await refuses(t, 'ERR_GLOW_SHAPE', /received 0/, () => model.encode(images))
})

test('values that are not finite, and labels that do not fit', async (t) => {
  const model = await initialized()
  const images = slopes(2)
  const latents = await model.encode(images)
  for (const value of [Number.NaN, Infinity, -Infinity]) {
    const data = latents.data.slice()
    data[70] = value
    await refuses(t, 'ERR_GLOW_SHAPE', /finite/, () => model.decode({ ...latents, data }))
    const floats = Float32Array.from(images.data)
    floats[3] = value
    await refuses(t, 'ERR_GLOW_SHAPE', /finite/, () => model.encode({ ...images, data: floats }))
  }
  const direction = { data: new Float32Array(64).fill(Number.NaN), dims: 64, toJSON: any<never>(null) }
  await refuses(t, 'ERR_GLOW_SHAPE', /finite/, () => model.shift(images, direction))
  await refuses(t, 'ERR_GLOW_LABELS', /received/, () => imagesInMemory(images, [1]))
  await refuses(t, 'ERR_GLOW_LABELS', /received -1/, () => imagesInMemory(images, [0, -1]))
  const data = slopesData(4)
  await refuses(t, 'ERR_GLOW_OPTION', /indices below 4/, () => data.batch([4]))
  await refuses(t, 'ERR_GLOW_OPTION', /indices/, () => data.batch([0.5]))
  await refuses(t, 'ERR_GLOW_OPTION', /fractions/, () => data.split([0.9, 0.9]))
  await refuses(t, 'ERR_GLOW_OPTION', /fractions/, () => data.split([Number.NaN]))
  await refuses(t, 'ERR_GLOW_OPTION', /fractions/, () => data.split([1e-9]))
})

test('a model that has seen no data, constant data, and one that is gone', async (t) => {
  const model = await tiny()
  const images = slopes(2)
  await refuses(t, 'ERR_GLOW_NOT_INITIALIZED', /initialize or train/, () => model.encode(images))
  await refuses(t, 'ERR_GLOW_NOT_INITIALIZED', /initialize or train/, () => model.sample())
  const constant = { ...images, data: new Uint8Array(images.data.length).fill(7) }
  const refused = await refuses(t, 'ERR_GLOW_DATA', /channel 0|constant/, () => model.initialize(constant))
  t.is(typeof refused.details['what'], 'string')
  await model.initialize(images)
  const pending = model.encode(images)
  await model.dispose()
  await pending.catch((error: unknown) => t.true(GlowError.isInstance(error)))
  for (const call of [
    () => model.encode(images),
    () => model.sample(),
    () => model.save('x'),
    () => model.initialize(images),
  ])
    await refuses(t, 'ERR_GLOW_DISPOSED', /disposed/, call)
})

test('files that are missing, truncated, of another format or hostile', async (t) => {
  const dir = await folder(t)
  const file = async (name: string, content: string | Uint8Array) => {
    await writeFile(join(dir, name), content)
    return join(dir, name)
  }
  const missing = join(dir, 'missing')
  const error = await refuses(t, 'ERR_GLOW_IO', /missing/, () => loadModel(missing, { device: 'cpu' }))
  t.is(error.details['path'], missing)
  t.is(error.details['errno'], 2)
  await refuses(t, 'ERR_GLOW_IO', /missing/, () => idxFiles({ images: missing }))

  const model = await initialized()
  const whole = join(dir, 'model')
  await model.save(whole)
  const bytes = await readFile(whole)
  const claims = (length: bigint) => {
    const header = Buffer.alloc(16)
    header.writeBigUInt64LE(length)
    return header
  }
  const tensor = (end: number, shape: number[]) => {
    const json = JSON.stringify({ weight: { dtype: 'F32', shape, data_offsets: [0, end] } })
    return Buffer.concat([claims(BigInt(json.length)).subarray(0, 8), Buffer.from(json)])
  }
  const hostile: Record<string, string | Uint8Array> = {
    empty: '',
    text: 'This is a letter, not a model.',
    'half a model': bytes.subarray(0, bytes.length / 2),
    'all but one byte': bytes.subarray(0, bytes.length - 1),
    'a header of terabytes': claims(2n ** 42n),
    'a header of all there is': claims(2n ** 64n - 1n),
    'a tensor of terabytes': tensor(2 ** 42, [2 ** 40]),
    'sizes that overflow': tensor(4, [2 ** 32, 2 ** 32, 2 ** 32]),
    'another safetensors file': Buffer.concat([tensor(4, [1]), Buffer.alloc(4)]),
    png: await pngGrid(slopes(1)),
  }
  for (const [name, content] of Object.entries(hostile)) {
    const path = await file(name.replaceAll(' ', '-'), content)
    await refuses(t, 'ERR_GLOW_FILE', /./, () => loadModel(path, { device: 'cpu' }))
    await refuses(t, 'ERR_GLOW_FILE', /./, () => idxFiles({ images: path }))
  }
  await refuses(t, 'ERR_GLOW_FILE', /found none/, () => loadModel(dir, { device: 'cpu' }))

  const claimed = Buffer.from([0, 0, 8, 3, 0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 1, 2, 3])
  await refuses(t, 'ERR_GLOW_FILE', /./, async () => idxFiles({ images: await file('idx', claimed) }))
  const few = Buffer.from([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 200])
  const labels = Buffer.from([0, 0, 8, 1, 0, 0, 0, 2, 0, 1])
  await refuses(t, 'ERR_GLOW_LABELS', /./, async () =>
    idxFiles({ images: await file('one', few), labels: await file('two', labels) }),
  )
})

test('what cannot be written leaves nothing behind', async (t) => {
  const dir = await folder(t)
  const model = await initialized()
  await writeFile(join(dir, 'file'), '')
  const inside = join(dir, 'file', 'inside')
  await refuses(t, 'ERR_GLOW_IO', /inside/, () => model.save(inside))
  await refuses(t, 'ERR_GLOW_IO', /inside/, () => writePngGrid(inside, slopes(1)))
  await refuses(t, 'ERR_GLOW_FILE', /./, () => model.save(dir))
  t.deepEqual(await readdir(dir), ['file'])
})

test('a program that does everything wrong ends by itself', async (t) => {
  const source = `
    import { addDirection, celebA, cifar10, createGlow, customDataset, GlowError, idxFiles, imageFolder, imagesInMemory, interpolateLatents, loadDirections, loadModel, openDevice, pngGrid, readImages, resample, resumeTraining, saveDirections } from 'glowflow'
    const wrong = [undefined, null, 0, -1, 1.5, NaN, Infinity, 2 ** 53, '', 'x', [], {}, [[]], Symbol('s'), 1n, () => {}, new Uint8Array(3), new Date(NaN)]
    const images = { data: new Uint8Array(64).map((_, i) => i * 3), count: 1, height: 8, width: 8, channels: 1 }
    const model = await createGlow({ imageSize: 8, channels: 1, levels: 1, depth: 1, hidden: 4, device: 'cpu' })
    await model.initialize(images)
    const latents = await model.encode(images)
    let refused = 0
    const attempt = async (call) => {
      try { await call() } catch (error) {
        if (!GlowError.isInstance(error) || error.code === 'ERR_GLOW_INTERNAL') throw error
        refused++
      }
    }
    for (const value of wrong) {
      for (const call of [createGlow, loadModel, openDevice, idxFiles, imageFolder, celebA, customDataset, readImages, imagesInMemory, pngGrid]) await attempt(() => call(value))
      for (const call of [addDirection, interpolateLatents, loadDirections, resample, saveDirections]) await attempt(() => call(value, value, value))
      for (const call of [addDirection, interpolateLatents, resample]) await attempt(() => call(latents, value, value))
      for (const option of ['pad', 'background', 'size', 'randomCrop', 'channels']) await attempt(() => imageFolder('src', { [option]: value }))
      await attempt(() => cifar10(value, 'test'))
      await attempt(() => cifar10('src', value))
      for (const name of ['initialize', 'encode', 'decode', 'decodeFloat', 'logProb', 'bitsPerDim', 'evaluate', 'interpolate', 'direction', 'directions', 'shift', 'verify', 'train'])
        await attempt(() => model[name](value, value, value))
      for (const option of ['imageSize', 'channels', 'levels', 'depth', 'hidden', 'coupling', 'bits', 'seed', 'precision', 'device'])
        await attempt(() => createGlow({ imageSize: 8, levels: 1, depth: 1, hidden: 4, device: 'cpu', [option]: value }))
      for (const field of ['data', 'count', 'height', 'width', 'channels']) await attempt(() => model.encode({ ...images, [field]: value }))
      for (const field of ['data', 'count', 'dims']) await attempt(() => model.decode({ ...latents, [field]: value }))
    }
    console.log(refused > 400 ? 'refused' : refused)`
  const cwd = fileURLToPath(new URL('..', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', source], { cwd })
  t.is(stdout, 'refused\n')
})
