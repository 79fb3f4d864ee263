import { mkdir, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

import test, { type ExecutionContext } from 'ava'
import { exportOnnx, type FlowModel, type GlowOptions, type Images, imagesInMemory, type OnnxPart } from 'glowflow'
import { InferenceSession, Tensor } from 'onnxruntime-node'

import { glowflow } from './cli-helpers.js'
import { folder, initialized, random, refuses, slopes, tiny } from './helpers.js'

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

/** A model whose weights, those that start at zero too, have moved far within a few steps. */
async function moved(t: ExecutionContext<unknown>, options: Partial<GlowOptions>, images?: Images): Promise<FlowModel> {
  const model = await tiny(options)
  t.teardown(() => model.dispose())
  const run = model.train(imagesInMemory(images ?? slopes(64, shapeOf(model))), {
    steps: 8,
    batchSize: 16,
    warmup: 0,
    optimizer: { learningRate: 0.01 },
  })
  await run.finished
  return model
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
        const model = await moved(t, options)
        const [encode, decode, logProb] = await Promise.all([
          exported(t, model, 'encode'),
          exported(t, model, 'decode'),
          exported(t, model, 'logProb'),
        ])
        const bin = 2 ** (8 - options.bits)
        for (const count of [1, 5]) {
          const images = slopes(count, shapeOf(model), 9)
          const middles = Float32Array.from(images.data, (value) => bin * (Math.floor(value / bin) + 0.5))
          // One batch after the other, as in any program.
          // oxlint-disable-next-line no-await-in-loop
          const [latents, logProbs, encoded, scored] = await Promise.all([
            model.encode(images),
            model.logProb(images, { dequantize: 'midpoint' }),
            encode.run({ images: pixels(middles, images) }),
            logProb.run({ images: pixels(middles, images) }),
          ])
          t.deepEqual(encoded['latents']!.dims, [count, latents.dims])
          t.true(difference(encoded['latents']!.data as Float32Array, latents.data) < 1e-5)
          t.deepEqual(scored['latents']!.data, encoded['latents']!.data)
          t.deepEqual([scored['log_prob']!.type, scored['log_prob']!.dims], ['float64', [count]])
          t.true(relative(scored['log_prob']!.data as Float64Array, logProbs) < 3e-7)

          // oxlint-disable-next-line no-await-in-loop
          const [decoded, back, own] = await Promise.all([
            decode.run({ latents: floats(latents.data, count, latents.dims) }),
            decode.run({ latents: encoded['latents']! }),
            model.decodeFloat(latents),
          ])
          t.deepEqual(decoded['images']!.dims, [count, own.height, own.width, own.channels])
          t.true(difference(decoded['images']!.data as Float32Array, own.data) < 1e-3)
          t.true(difference(back['images']!.data as Float32Array, middles) < 1e-3)
        }
      })
    }

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
    [args.slice(0, 3), /--part <name>' not specified/, 2],
    [[...args, '--format', 'onxn'], /Allowed choices are onnx/, 2],
    [[...args, '--out', join('taken', 'model.onnx')], /ERR_GLOW_IO/, 1],
  ]
  const ended = await Promise.all(wrong.map(([line]) => glowflow(line, path)))
  for (const [index, [, sentence, code]] of wrong.entries()) {
    t.regex(ended[index]!.stderr, sentence)
    t.is(ended[index]!.code, code)
  }
})
