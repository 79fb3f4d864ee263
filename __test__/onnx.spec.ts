import { mkdir, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

import test, { type ExecutionContext } from 'ava'
import {
  createNice,
  createRealNvp,
  exportOnnx,
  type FlowModel,
  type GlowOptions,
  type Images,
  imagesInMemory,
  importPyTorch,
  type OnnxPart,
} from 'glowflow'
import { InferenceSession, Tensor } from 'onnxruntime-node'

import { glowflow } from './cli-helpers.js'
import { folder, initialized, peerFile, random, refuses, slopes, tiny } from './helpers.js'

type Shaped = Pick<Images, 'count' | 'height' | 'width' | 'channels'>

const floats = (values: Float32Array, ...shape: number[]): Tensor => new Tensor('float32', values, shape)
const pixels = (values: Float32Array, { count, height, width, channels }: Shaped): Tensor =>
  floats(values, count, height, width, channels)

const largest = (values: Iterable<number>): number => Array.from(values).reduce((most, v) => Math.max(most, v), 0)
const difference = (found: ArrayLike<number>, truth: ArrayLike<number>): number =>
  found.length === truth.length ? largest(Array.from(truth, (value, index) => Math.abs(value - found[index]!))) : NaN

const relative = (found: ArrayLike<number>, truth: ArrayLike<number>): number =>
  difference(found, truth) / largest(Array.from(truth, Math.abs))

/** A part of a model as onnxruntime runs it. */
async function exported(t: ExecutionContext<unknown>, model: FlowModel, part: OnnxPart): Promise<InferenceSession> {
  const file = join(await folder(t), `${part}.onnx`)
  await exportOnnx(model, file, { part })
  return InferenceSession.create(file)
}

function shapeOf({ config: { imageSize, channels } }: FlowModel): Omit<Shaped, 'count'> {
  const [height, width] = typeof imageSize === 'number' ? [imageSize, imageSize] : imageSize
  return { height, width, channels }
}

/** The same model, its weights, those that start at zero too, moved far within a few steps. */
async function trained(
  t: ExecutionContext<unknown>,
  model: FlowModel,
  {
    images = slopes(64, shapeOf(model)),
    learningRate = 0.01,
  }: { images?: Images | undefined; learningRate?: number } = {},
): Promise<FlowModel> {
  t.teardown(() => model.dispose())
  const classes = (model.config.kind === 'glow' && model.config.classes) || 1
  const labels = Uint32Array.from({ length: images.count }, (_, image) => image % classes)
  const run = model.train(imagesInMemory(images, labels), {
    steps: 8,
    batchSize: 16,
    warmup: 0,
    optimizer: { learningRate },
  })
  await run.finished
  return model
}

const moved = async (
  t: ExecutionContext<unknown>,
  options: Partial<GlowOptions>,
  images?: Images,
): Promise<FlowModel> => trained(t, await tiny(options), { images })

/** Expects of all three parts, for one image and for five, what the model itself says. */
async function agrees(t: ExecutionContext<unknown>, model: FlowModel): Promise<void> {
  const [encode, decode, logProb] = await Promise.all([
    exported(t, model, 'encode'),
    exported(t, model, 'decode'),
    exported(t, model, 'logProb'),
  ])
  const bin = 2 ** (8 - model.config.bits)
  const classes = model.config.kind === 'glow' ? model.config.classes : undefined
  for (const count of [1, 5]) {
    const images = slopes(count, shapeOf(model), 9)
    const middles = Float32Array.from(images.data, (value) => bin * (Math.floor(value / bin) + 0.5))
    const each = Array.from({ length: count }, (_, image) => (classes ?? 1) - 1 - (image % (classes ?? 1)))
    const known = classes ? { labels: each } : {}
    const labels: Record<string, Tensor> = classes
      ? { labels: new Tensor('int64', BigInt64Array.from(each, BigInt), [count]) }
      : {}
    // One batch after the other, as in any program.
    // oxlint-disable-next-line no-await-in-loop
    const [latents, logProbs, encoded, scored] = await Promise.all([
      model.encode(images, known),
      model.logProb(images, { dequantize: 'midpoint', ...known }),
      encode.run({ images: pixels(middles, images), ...labels }),
      logProb.run({ images: pixels(middles, images), ...labels }),
    ])
    t.deepEqual(encoded['latents']!.dims, [count, latents.dims])
    t.true(difference(encoded['latents']!.data as Float32Array, latents.data) < 1e-5)
    t.deepEqual(scored['latents']!.data, encoded['latents']!.data)
    t.deepEqual([scored['log_prob']!.type, scored['log_prob']!.dims], ['float64', [count]])
    t.true(relative(scored['log_prob']!.data as Float64Array, logProbs) < 3e-7)

    // oxlint-disable-next-line no-await-in-loop
    const [decoded, back, own] = await Promise.all([
      decode.run({ latents: floats(latents.data, count, latents.dims), ...labels }),
      decode.run({ latents: encoded['latents']!, ...labels }),
      model.decodeFloat(latents, known),
    ])
    t.deepEqual(decoded['images']!.dims, [count, own.height, own.width, own.channels])
    t.true(difference(decoded['images']!.data as Float32Array, own.data) < 1e-3)
    t.true(difference(back['images']!.data as Float32Array, middles) < 1e-3)
  }
}

const couplings = [
  { coupling: 'additive' },
  { coupling: 'affine', scale: 'sigmoid' },
  { coupling: 'affine', scale: 'bounded' },
] as const
const permutations = ['conv1x1-lu', 'conv1x1', 'shuffle', 'reverse'] as const

for (const [c, coupling] of couplings.entries())
  for (const [p, permutation] of permutations.entries())
    for (const edgeBias of [false, true]) {
      const index = 2 * (4 * c + p) + Number(edgeBias)
      const options = {
        ...coupling,
        permutation,
        edgeBias,
        imageSize: index % 3 === 0 ? ([8, 16] as const) : 8,
        channels: index % 4 < 2 ? 1 : 3,
        levels: 1 + ((c + p + 2 * Number(edgeBias)) % 3),
        learnTop: index % 5 > 1,
        bits: (c + p) % 2 === 0 ? 8 : 5,
      } as const
      test(`a graph computes what the model does: ${Object.values(options).join(', ')}`, async (t) => {
        await agrees(t, await moved(t, options))
      })
    }

for (const options of [
  { classes: 2 },
  { classes: 3, classifierWeight: 0.1, levels: 1, imageSize: [8, 16] },
  { classes: 2, learnTop: false, channels: 3, edgeBias: true },
] as const)
  test(`a graph sees classes: ${JSON.stringify(options)}`, async (t) => {
    const model = await moved(t, options)
    const images = slopes(2, shapeOf(model), 9)
    const [first, second] = await Promise.all([0, 1].map((label) => model.logProb(images, { labels: label })))
    t.true(relative(first!, second!) > 1e-4)
    await agrees(t, model)
    const [encode, decode] = await Promise.all([exported(t, model, 'encode'), exported(t, model, 'decode')])
    t.deepEqual(
      [encode.inputNames, decode.inputNames],
      [
        ['images', 'labels'],
        ['latents', 'labels'],
      ],
    )
  })

for (const [levels, imageSize, channels, bits] of [
  [2, 8, 3, 8],
  [1, [3, 5], 1, 8],
  [3, [8, 16], 1, 5],
] as const)
  test(`the graph of a RealNVP computes what it does: ${levels}, ${imageSize}, ${channels}, ${bits}`, async (t) => {
    const model = await createRealNvp({
      levels,
      imageSize,
      channels,
      bits,
      blocks: 2,
      hidden: 4,
      device: 'cpu',
      seed: 1,
    })
    await agrees(t, await trained(t, model))
  })

for (const prior of ['logistic', 'gaussian'] as const)
  for (const whitening of ['none', 'approximate', 'zca'] as const)
    test(`the graph of a NICE computes what it does: ${prior}, ${whitening}`, async (t) => {
      const channels = whitening === 'zca' ? 1 : 3
      const options = { imageSize: [4, 6], channels, couplings: 3, hidden: 16, layers: 2, prior, whitening } as const
      await agrees(t, await trained(t, await createNice({ ...options, device: 'cpu', seed: 1 })))
    })

test('nothing overflows far out under a logistic prior, nor in a logit without an end', async (t) => {
  const nice = await trained(t, await createNice({ imageSize: 8, hidden: 16, channels: 1, device: 'cpu', seed: 1 }))
  const draw = random(8)
  const images = slopes(4)
  const values = Float32Array.from(images.data, () => 2e5 * (draw() - 0.5))
  const { log_prob } = await (await exported(t, nice, 'logProb')).run({ images: pixels(values, images) })
  const own = await nice.logProb({ ...images, data: values })
  t.true(own.every(Number.isFinite))
  t.true(relative(log_prob!.data as Float64Array, own) < 3e-7)

  const options = { imageSize: 8, channels: 1, levels: 1, blocks: 1, hidden: 4, device: 'cpu', seed: 1 } as const
  const realnvp = await trained(t, await createRealNvp(options))
  const latents = Float32Array.from({ length: 4 * 64 }, () => 1e6 * (draw() - 0.5))
  const decoded = await (await exported(t, realnvp, 'decode')).run({ latents: floats(latents, 4, 64) })
  const found = decoded['images']!.data as Float32Array
  // The ends of the logit lie beyond those of the pixels, by 1/18 of the range.
  t.true(found.every((value) => value > -14.3 && value < 270.3))
})

test('a log-probability is of the place in its bin that a value is given', async (t) => {
  const model = await moved(t, { bits: 3 })
  const images = slopes(4, {}, 5)
  const places = Float32Array.from(images.data, (_, index) => ((index * 37) % 64) / 64)
  const values = Float32Array.from(images.data, (value, index) => 32 * (Math.floor(value / 32) + places[index]!))
  const session = await exported(t, model, 'logProb')
  const { log_prob } = await session.run({ images: pixels(values, images) })
  const truth = await model.logProb(images, { dequantize: places })
  t.true(relative(log_prob!.data as Float64Array, truth) < 3e-7)
})

/** Every value black or white. */
function noise(count: number): Images {
  const draw = random(7)
  const images = slopes(count)
  return { ...images, data: images.data.map(() => (draw() < 0.5 ? 0 : 255)) }
}

for (const scale of ['sigmoid', 'bounded'] as const)
  for (const [end, data] of [
    ['lower', noise(64)],
    ['upper', slopes(64)],
  ] as const)
    test(`nothing overflows where a ${scale} scale is at its ${end} end`, async (t) => {
      // Noise makes scales small, slopes large; far from the data, where the net is of degree 1, raw scales are of hundreds.
      const model = await moved(t, { scale, levels: 1, depth: 1 }, data)
      const draw = random(8)
      const images = slopes(4)
      const values = Float32Array.from(images.data, () => 2e5 * (draw() - 0.5))
      const session = await exported(t, model, 'logProb')
      const { latents, log_prob } = await session.run({ images: pixels(values, images) })
      const far = { ...images, data: values }
      const [own, ownLogProb] = [await model.encode(far), await model.logProb(far)]
      t.true(own.data.every(Number.isFinite) && ownLogProb.every(Number.isFinite))
      t.true(relative(latents!.data as Float32Array, own.data) < 1e-5)
      t.true(relative(log_prob!.data as Float64Array, ownLogProb) < 3e-7)
    })

test('a graph holds one state of the weights, and a file is replaced', async (t) => {
  const [model, other] = [await initialized(), await moved(t, {})]
  const path = await folder(t)
  const file = pathToFileURL(join(path, 'model.onnx'))
  await exportOnnx(model, file, { part: 'encode' })
  const images = slopes(2)
  const session = await InferenceSession.create(join(path, 'model.onnx'))
  await exportOnnx(other, file, { part: 'encode' })
  const later = await InferenceSession.create(join(path, 'model.onnx'))
  const input = pixels(
    Float32Array.from(images.data, (value) => value + 0.5),
    images,
  )
  const [first, second] = [await session.run({ images: input }), await later.run({ images: input })]
  t.true(difference(first['latents']!.data as Float32Array, (await model.encode(images)).data) < 1e-5)
  t.true(difference(second['latents']!.data as Float32Array, (await other.encode(images)).data) < 1e-5)
  t.deepEqual(await readdir(path), ['model.onnx'])
})

test('every weight is stored once', async (t) => {
  const model = await initialized({ hidden: 128, edgeBias: true })
  const file = join(await folder(t), 'model.onnx')
  for (const part of ['encode', 'decode', 'logProb'] as const) {
    // oxlint-disable-next-line no-await-in-loop
    await exportOnnx(model, file, { part })
    // oxlint-disable-next-line no-await-in-loop
    const { size } = await stat(file)
    t.true(size > 4 * model.parameterCount && size < 1.1 * 4 * model.parameterCount, `${size} bytes`)
  }
})

test('what cannot be exported is refused, and no file is left', async (t) => {
  const path = await folder(t)
  const file = join(path, 'model.onnx')
  await refuses(t, 'ERR_GLOW_NOT_INITIALIZED', /initialize or train/, async () =>
    exportOnnx(await tiny(), file, { part: 'encode' }),
  )
  const model = await initialized()
  const any = <T>(value: unknown): T => value as T
  const part = "'encode' or 'decode' or 'logProb' for part"
  await refuses(t, 'ERR_GLOW_OPTION', new RegExp(`${part} but received 'sample'`), () =>
    exportOnnx(model, file, any({ part: 'sample' })),
  )
  await refuses(t, 'ERR_GLOW_OPTION', new RegExp(`${part} but received undefined`), () =>
    exportOnnx(model, file, any({})),
  )
  await refuses(t, 'ERR_GLOW_OPTION', /an object for options/, () => exportOnnx(model, file, any(undefined)))
  await refuses(t, 'ERR_GLOW_OPTION', /a path or a file: URL for file/, () => exportOnnx(model, '', { part: 'encode' }))
  await refuses(t, 'ERR_GLOW_OPTION', /a FlowModel for model/, () => exportOnnx(any({}), file, { part: 'encode' }))
  t.deepEqual(await readdir(path), [])

  const missing = join(path, 'missing', 'model.onnx')
  const error = await refuses(t, 'ERR_GLOW_IO', /missing/, () => exportOnnx(model, missing, { part: 'decode' }))
  t.is(error.details['path'], missing)
  await mkdir(file)
  await refuses(t, 'ERR_GLOW_FILE', /a file but found a folder/, () => exportOnnx(model, file, { part: 'decode' }))
  await model.dispose()
  await refuses(t, 'ERR_GLOW_DISPOSED', /disposed/, () => exportOnnx(model, file, { part: 'encode' }))
})

for (const [name, layout] of [
  ['ros_affine_nolu', 'rosinality'],
  ['y0ast_affine_lu', 'y0ast'],
  ['chai_affine_nolu', 'chaiyujin'],
  ['nf_glow_lu', 'normflows'],
] as const)
  test(`the graph of a model of ${layout} computes what it does`, async (t) => {
    const { model } = await importPyTorch(peerFile(`${name}/model.pt`), { layout, imageSize: 16, device: 'cpu' })
    t.teardown(() => model.dispose())
    await agrees(t, model)
  })

test('glowflow export', async (t) => {
  const path = await folder(t)
  const model = await initialized()
  await model.save(join(path, 'model.safetensors'))
  const args = ['export', '--model', 'model.safetensors', '--part', 'logProb']
  const done = await glowflow([...args, '--json'], path)
  t.is(done.code, 0, done.stderr)
  t.deepEqual(JSON.parse(done.stdout), { file: 'model.onnx', format: 'onnx', part: 'logProb' })
  const session = await InferenceSession.create(join(path, 'model.onnx'))
  t.deepEqual([session.inputNames, session.outputNames], [['images'], ['latents', 'log_prob']])

  await writeFile(join(path, 'taken'), '')
  const wrong: [args: string[], sentence: RegExp, code: number][] = [
    [[...args.slice(0, 4), 'sample'], /'logProb' for --part but received 'sample' \(ERR_GLOW_OPTION\)/, 2],
    [args.slice(0, 3), /Expected --part and no --layout with --format onnx/, 2],
    [[...args, '--format', 'onxn'], /Allowed choices are onnx/, 2],
    [[...args, '--out', join('taken', 'model.onnx')], /ERR_GLOW_IO/, 1],
  ]
  const ended = await Promise.all(wrong.map(([line]) => glowflow(line, path)))
  for (const [index, [, sentence, code]] of wrong.entries()) {
    t.regex(ended[index]!.stderr, sentence)
    t.is(ended[index]!.code, code)
  }
})
