import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'
import { createGlow, imagesInMemory, type Labelled } from 'glowflow'

import { glowflow, idxFolder } from './cli-helpers.js'
import { folder, refuses, slopes, slopesData, tiny } from './helpers.js'

const conditional = async () => {
  const model = await tiny({ classes: 2, classifierWeight: 0.01 })
  await model.initialize(slopes(32))
  return model
}

test('a conditional model says its classes, and its config builds it again', async (t) => {
  const model = await tiny({ classes: 2, classifierWeight: 0.01 })
  t.like(model.config, { classes: 2, classifierWeight: 0.01, layout: 'glow' })
  const again = await createGlow({ ...model.config, device: 'cpu' })
  t.deepEqual(again.config, model.config)
  const plain = await tiny()
  t.false('classes' in plain.config)
  // 8 channels at the top: (2 + 2) * 16 of the prior, (8 + 2) * 2 of the classifier.
  t.is(model.parameterCount - plain.parameterCount, 64 + 20)
})

test('labels decide what a model says and draws', async (t) => {
  const model = await conditional()
  await model.train(slopesData(32), { steps: 20, batchSize: 8, warmup: 0, optimizer: { learningRate: 0.01 } }).finished
  const images = slopes(4)
  const of = (labels: number | ArrayLike<number>) => model.bitsPerDim(images, { labels })
  const [first, second] = [await of(0), await of(1)]
  t.notDeepEqual(first, second)
  t.deepEqual(await of([0, 1, 0, 1]), Float64Array.of(first[0]!, second[1]!, first[2]!, second[3]!))
  t.deepEqual(await of(Uint32Array.of(0, 0, 0, 0)), first)

  const latents = await model.encode(images, { labels: [0, 1, 0, 1] })
  t.deepEqual((await model.decode(latents, { labels: [0, 1, 0, 1] })).data, images.data)
  const drawn = (labels: number) => model.sample({ count: 2, seed: 1, labels })
  t.notDeepEqual((await drawn(0)).data, (await drawn(1)).data)
  t.is((await model.verify(images, { labels: 1 })).pixelMismatches, 0)
  const frames = await model.interpolate(images, images, { frames: 2, labels: [0, 1, 0, 1] })
  t.deepEqual(frames.data.subarray(0, 64), images.data.subarray(0, 64))

  const probabilities = await model.classify(images, { dequantize: 'midpoint' })
  t.deepEqual(
    probabilities.map((row) => row.length),
    [2, 2, 2, 2],
  )
  for (const row of probabilities) t.true(Math.abs(row[0]! + row[1]! - 1) < 1e-9)
  const { classificationError } = await model.evaluate(slopesData(16))
  t.true(classificationError! >= 0 && classificationError! <= 1)
})

test('labels that do not fit are refused in a sentence', async (t) => {
  const model = await conditional()
  const plain = await tiny()
  await plain.initialize(slopes(32))
  const images = slopes(3)
  const bad = (words: RegExp, work: () => Promise<unknown>) => refuses(t, 'ERR_GLOW_LABELS', words, work)
  const encode = (options: Labelled) => () => model.encode(images, options)
  await bad(/^Expected a class below 2 for all images or one each for labels but received none$/, encode({}))
  await bad(/^Expected a class below 2 for all images or one each for labels but received none$/, () => model.sample())
  await bad(/^Expected 3 classes for labels but received 2 classes$/, encode({ labels: [0, 1] }))
  await bad(/^Expected classes below 2 for labels but received 2$/, encode({ labels: [0, 1, 2] }))
  await bad(/^Expected an integer of at least 0 for labels but received -1$/, encode({ labels: -1 }))
  await bad(
    /^Expected integers of at least 0 for labels but received 0.5 for image 1$/,
    encode({ labels: [0, 0.5, 1] }),
  )
  await bad(/^Expected none, as the model has no classes, for labels but received class 1$/, () =>
    plain.encode(images, { labels: 1 }),
  )
  await bad(/^Expected a class-conditional model for labels but received one without classes$/, () =>
    plain.classify(images),
  )
  const unlabelled = imagesInMemory(slopes(8))
  const without = /^Expected one of 2 classes for each image for labels but received data without$/
  await bad(without, () => model.train(unlabelled, { steps: 1 }).finished)
  await bad(without, () => model.evaluate(unlabelled))
  const three = imagesInMemory(slopes(6), [0, 1, 2, 0, 1, 2])
  await bad(/^Expected at most 2 classes for labels but received data with 3$/, () => model.evaluate(three))
  await refuses(t, 'ERR_GLOW_OPTION', /^Expected a class or a list of classes for labels but received 'a'$/, () =>
    // @ts-expect-error Text is no class.
    model.encode(images, { labels: 'a' }),
  )
})

test('options of classes', async (t) => {
  const bad = (words: RegExp, options: object) => refuses(t, 'ERR_GLOW_OPTION', words, () => tiny(options))
  await bad(/^Expected a whole number from 2 to 100000 for classes but received 1$/, { classes: 1 })
  await bad(/for classifierWeight but received -1$/, { classes: 2, classifierWeight: -1 })
  await bad(/^Expected 0 where classes is not set for classifierWeight but received 0.5$/, { classifierWeight: 0.5 })
  await bad(/^Expected 'glow' for layout but received 'rosinality'$/, { layout: 'rosinality' })
})

test('the command line takes classes from the data and labels as typed or from the data', async (t) => {
  const home = await folder(t)
  const data = await idxFolder(home, 40)
  const run = join(home, 'run')
  const small = [
    '--levels',
    '2',
    '--depth',
    '1',
    '--hidden',
    '4',
    '--device',
    'cpu',
    '--steps',
    '2',
    '--batch-size',
    '4',
  ]
  const trained = await glowflow(['train', '--data', data, '--classes', 'auto', ...small, '--out', run, '--json'], home)
  t.is(trained.code, 0, trained.stderr)
  t.like(JSON.parse(await readFile(join(run, 'settings.json'), 'utf8')), { model: { classes: 2 } })

  const model = ['--model', run, '--device', 'cpu']
  const drawn = await glowflow(['sample', ...model, '--count', '2', '--labels', '0,1', '--json'], home)
  t.is(drawn.code, 0, drawn.stderr)
  const unsaid = await glowflow(['sample', ...model, '--count', '2'], home)
  t.is(unsaid.code, 1)
  t.regex(unsaid.stderr, /Expected a class below 2 for all images or one each for labels but received none/)
  const encoded = await glowflow(['encode', ...model, '--data', data, '--part', 'train', '--count', '4'], home)
  t.is(encoded.code, 0, encoded.stderr)
  const [decoded, verified] = await Promise.all([
    glowflow(['decode', ...model, '--latents', 'latents.npy', '--labels', '0,1,0,1', '--json'], home),
    glowflow(['verify', ...model, '--data', data, '--part', 'train', '--count', '4', '--json'], home),
  ])
  t.is(decoded.code, 0, decoded.stderr)
  t.is(verified.code, 0, verified.stderr)
})
