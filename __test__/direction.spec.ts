import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'
import { createGlow, type Direction, directionFromJSON, imagesInMemory, loadDirections, saveDirections } from 'glowflow'

import { classifier } from '../examples/classifier.ts'
import { mnist, ofClass } from '../examples/mnist-data.ts'
import { folder, initialized, refuses, slopes, slopesData, tiny } from './helpers.js'

const any = <T>(value: unknown): T => value as T
const direction = (values: number[]): Direction => {
  const bytes = Buffer.from(Float32Array.from(values).buffer)
  return directionFromJSON({
    format: 'glowflow-direction',
    version: 1,
    dims: values.length,
    data: bytes.toString('base64'),
  })
}

test('data with classes have a direction for each, that class against all others', async (t) => {
  const model = await initialized()
  const data = slopesData(40)
  const directions = await model.directions(data)
  t.deepEqual(Object.keys(directions), ['0', '1'])
  const all = await data.batch([...Array(40).keys()])
  const alone = await model.direction(ofClass(all, 1), ofClass(all, 0))
  t.is(directions['1']!.dims, 64)
  const ones = imagesInMemory(ofClass(all, 1))
  t.deepEqual((await model.direction(ones, ofClass(all, 0))).data, alone.data, 'of a data set as of its images')
  for (const [at, value] of alone.data.entries()) {
    t.true(Math.abs(directions['1']!.data[at]! - value) < 1e-6)
    t.true(Math.abs(directions['0']!.data[at]! + value) < 1e-6)
  }
  t.deepEqual((await model.directions(data, { batchSize: 3 }))['1']!.data, directions['1']!.data)
  t.deepEqual(Object.keys(await model.directions(data, { only: ['1'] })), ['1'])
  t.deepEqual(directionFromJSON(JSON.parse(JSON.stringify(directions['0']))).data, directions['0']!.data)
})

test('data without contrast, and options of directions', async (t) => {
  const model = await initialized()
  const plain = imagesInMemory(slopes(4))
  await refuses(t, 'ERR_GLOW_DATA', /attributes or classes but it has neither/, () => model.directions(plain))
  const gaps = imagesInMemory(slopes(4), [1, 3, 3, 1])
  await refuses(t, 'ERR_GLOW_DATA', /no image has "0", "2": name the others in only$/, () => model.directions(gaps))
  t.deepEqual(Object.keys(await model.directions(gaps, { only: ['3', '1'] })), ['1', '3'])
  const one = imagesInMemory(slopes(4), [0, 0, 0, 0])
  await refuses(t, 'ERR_GLOW_DATA', /every image has "0"/, () => model.directions(one))

  const bad = (words: RegExp, call: () => unknown) => refuses(t, 'ERR_GLOW_OPTION', words, call)
  const data = slopesData(8)
  await bad(/a Dataset for data/, () => model.directions(any(slopes(4))))
  await bad(/the name of each class wanted, once, for only but received "2"/, () =>
    model.directions(data, { only: ['2'] }),
  )
  await bad(/one name at least for only/, () => model.directions(data, { only: [] }))
  await bad(/a list of names for only/, () => model.directions(data, any({ only: [1] })))
  await bad(/Unknown option limit/, () => model.directions(data, any({ limit: 3 })))
  const other = imagesInMemory(slopes(4, { height: 4 }), [0, 1, 0, 1])
  await refuses(t, 'ERR_GLOW_SHAPE', /8x8x1 but received 4x8x1/, () => model.directions(other))
  // What is wrong with the data is said before anything is encoded.
  const fresh = await tiny()
  await refuses(t, 'ERR_GLOW_DATA', /no image has/, () => fresh.directions(gaps))
  await refuses(t, 'ERR_GLOW_NOT_INITIALIZED', /initialize/, () => fresh.directions(data))

  const reason = new Error('no longer needed')
  const controller = new AbortController()
  const call = model.directions(slopesData(2000), { signal: controller.signal, batchSize: 1 })
  controller.abort(reason)
  await t.throwsAsync(call, { is: reason })
})

test('many directions are one file, whatever they are called', async (t) => {
  const dir = await folder(t)
  const file = join(dir, 'directions.safetensors')
  const names = ['b', 'a', '', '7', '__metadata__', '__proto__', 'toString', '\0', 'a\nb', '"\\', '../x', 'Ünï 👓']
  const directions = Object.fromEntries(names.map((name, index) => [name, direction([index, -0.5, 1e-40])]))
  await saveDirections(file, directions)
  t.deepEqual(await readdir(dir), ['directions.safetensors'])
  const again = await loadDirections(file)
  t.deepEqual(Object.keys(again), Object.keys(directions))
  for (const [name, { data, dims }] of Object.entries(again)) {
    t.is(dims, 3)
    t.deepEqual(data, directions[name]!.data, name)
  }
  t.deepEqual(JSON.stringify(again), JSON.stringify(directions))

  const model = await initialized()
  await refuses(t, 'ERR_GLOW_SHAPE', /direction of 64 but received 3/, () => model.shift(slopes(1), again['a']!))
})

test('directions that cannot be saved, and files that are not of directions', async (t) => {
  const dir = await folder(t)
  const file = join(dir, 'file')
  const some = direction([1, 2])
  const bad = (words: RegExp, call: () => unknown) => refuses(t, 'ERR_GLOW_OPTION', words, call)
  await bad(/one direction at least for directions/, () => saveDirections(file, {}))
  await bad(/an object for directions/, () => saveDirections(file, any(null)))
  await bad(/directions\['a'\]/, () => saveDirections(file, any({ a: null })))
  await bad(/directions\['a'\]/, () => saveDirections(file, any({ a: { ...some, data: [1, 2] } })))
  await bad(/well-formed Unicode/, () => saveDirections(file, { '\ud800': some }))
  await bad(/file/, () => saveDirections('', { some }))
  await bad(/file/, () => loadDirections(any(3)))
  const shared = new Float32Array(new SharedArrayBuffer(8))
  await bad(/not shared for directions\['a'\]/, () => saveDirections(file, { a: { ...some, data: shared } }))
  const shape = (words: RegExp, call: () => unknown) => refuses(t, 'ERR_GLOW_SHAPE', words, call)
  await shape(/direction "b" of 2 but received 3/, () => saveDirections(file, { a: some, b: direction([1, 2, 3]) }))
  await shape(/directions\['a'\].data of 3 values but received 2/, () =>
    saveDirections(file, { a: { ...some, dims: 3 } }),
  )
  await shape(/finite/, () => saveDirections(file, { a: direction([1, Number.NaN]) }))
  t.deepEqual(await readdir(dir), [])

  await refuses(t, 'ERR_GLOW_IO', /file/, () => loadDirections(file))
  await refuses(t, 'ERR_GLOW_IO', /missing/, () => saveDirections(join(dir, 'missing', 'file'), { some }))
  await saveDirections(file, { some })
  const whole = await readFile(file)
  const model = await initialized()
  await model.save(join(dir, 'model'))
  const foreign: Record<string, string | Uint8Array> = {
    empty: '',
    text: 'This is a letter, not a direction.',
    json: JSON.stringify(some),
    truncated: whole.subarray(0, -1),
    model: await readFile(join(dir, 'model')),
  }
  for (const content of Object.values(foreign)) {
    // One file after the other: they have one name.
    // oxlint-disable-next-line no-await-in-loop
    await writeFile(file, content)
    // oxlint-disable-next-line no-await-in-loop
    const error = await refuses(t, 'ERR_GLOW_FILE', /Expected/, () => loadDirections(file))
    t.is(error.details['path'], file)
  }
})

test('the direction from 3 to 8 makes held-out threes of MNIST ever more an eight', async (t) => {
  const [training, heldOut] = await Promise.all([mnist('train'), mnist('t10k')])
  const model = await createGlow({
    imageSize: 32,
    channels: 1,
    levels: 3,
    depth: 4,
    hidden: 32,
    seed: 1,
    device: 'cpu',
    scale: 'bounded',
  })
  const start = Date.now()
  const options = { steps: 300, batchSize: 32, optimizer: { learningRate: 5e-3 }, warmup: 50, seed: 1 } as const
  const { loss } = await model.train(training, { ...options, schedule: 'cosine' }).finished
  t.log(`trained to ${loss.toFixed(2)} bits/dim in ${((Date.now() - start) / 1000).toFixed(1)} s`)

  const some = await training.batch([...Array(30_000).keys()])
  const logOdds = classifier(ofClass(some, 3), ofClass(some, 8))
  const unseen = await heldOut.batch([...Array(heldOut.length).keys()])
  const right = [3, 8].flatMap((digit) => logOdds(ofClass(unseen, digit)).map((odds) => odds > 0 === (digit === 8)))
  const accuracy = right.filter(Boolean).length / right.length
  t.log(`classifier: ${(100 * accuracy).toFixed(1)}% of ${right.length} held-out threes and eights`)
  t.true(accuracy > 0.95)

  const toEight = await model.direction(ofClass(some, 8, 1000), ofClass(some, 3, 1000))
  const amounts = [0, 0.25, 0.5, 0.75, 1]
  const moved = await model.shift(ofClass(unseen, 3, 200), toEight, { amounts })
  const each = logOdds(moved)
  const means = amounts.map((_, at) => mean(each.filter((_odds, index) => index % amounts.length === at)))
  t.log(`mean log-odds of an eight at ${amounts.join(', ')}: ${means.map((odds) => odds.toFixed(2)).join(', ')}`)
  means.slice(1).forEach((odds, at) => t.true(odds > means[at]!, `from ${amounts[at]} to ${amounts[at + 1]}`))
  t.true(means[0]! < -2 && means.at(-1)! > 1)
})

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length
