import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import test from 'ava'
import { customDataset, type CustomSource, type Images } from 'glowflow'

import { initialized, refuses, slopes, tiny } from './helpers.js'

const all = slopes(32)
/** Those of `slopes(32)`. */
function pick(indices: readonly number[]): Images {
  const data = Uint8Array.from(indices.flatMap((index) => [...all.data.subarray(index * 64, (index + 1) * 64)]))
  return { ...all, data, count: indices.length }
}

function source(batch: CustomSource['batch'], more: Partial<CustomSource> = {}): CustomSource {
  return { id: 'slopes', length: 32, height: 8, width: 8, channels: 1, batch, ...more }
}
/** Keeps the promises from being collected: they could still settle. */
const unsettled: (() => void)[] = []
const never = () => new Promise<never>((resolve) => unsettled.push(resolve as () => void))

test('a custom dataset is read, split, trained on and evaluated', async (t) => {
  let asked = 0
  const data = customDataset(
    source(
      async (indices) => {
        asked++
        await new Promise((resolve) => setTimeout(resolve, 1))
        return { ...pick(indices), labels: indices.map((index) => index % 2) }
      },
      { classes: ['across', 'down'] },
    ),
  )
  t.like(data, { length: 32, height: 8, width: 8, channels: 1, classes: ['across', 'down'] })
  const batch = await data.batch([5, 0])
  t.deepEqual(batch.data, pick([5, 0]).data)
  t.deepEqual(batch.labels, Uint32Array.of(1, 0))
  t.is((await data.batch([])).count, 0)

  const [train, rest] = data.split([0.75, 0.25])
  const model = await tiny()
  const run = model.train(train, { steps: 6, batchSize: 8, evaluate: { data: rest, every: 3 } })
  const evaluations: number[] = []
  for await (const event of run) if (event.type === 'evaluation-end') evaluations.push(event.images)
  t.deepEqual(evaluations, [8, 8])
  t.true(asked > 8)
  t.is((await model.evaluate(rest)).images, 8)
  t.is((await model.direction(train, rest)).dims, 64)
  await model.initialize(rest)
})

test('a custom dataset is named by its id, sizes and classes', (t) => {
  const of = (more: Partial<CustomSource>) => customDataset(source(never, more)).fingerprint
  t.is(of({}), of({ batch: async () => pick([0]) }))
  for (const more of [{ id: 'others' }, { length: 31 }, { width: 7 }, { classes: ['a'] }]) t.not(of(more), of({}))
})

test('what batch throws comes back, with its cause', async (t) => {
  const broken = new RangeError('the database is gone')
  const data = customDataset(source(() => Promise.reject(broken)))
  const error = await refuses(t, 'ERR_GLOW_DATA', /^the data set 'slopes': the database is gone$/, () =>
    data.batch([0]),
  )
  t.is(error.cause, broken)
  t.like(error.details, { reason: 'the database is gone' })

  const thrown = customDataset(
    source(() => {
      throw 'no error'
    }),
  )
  t.is((await refuses(t, 'ERR_GLOW_DATA', /no error/, () => thrown.batch([0]))).cause, 'no error')

  // In a run: after some good batches, and where evaluation reads.
  const model = await initialized()
  let left = 3
  const failing = customDataset(source(async (indices) => (left-- > 0 ? pick(indices) : Promise.reject(broken))))
  const run = model.train(failing, { batchSize: 4 })
  const failed = await refuses(t, 'ERR_GLOW_DATA', /the database is gone/, () => run.finished)
  t.is(failed.cause, broken)
  await refuses(t, 'ERR_GLOW_DATA', /the database is gone/, () => model.evaluate(failing))
  await refuses(t, 'ERR_GLOW_DATA', /the database is gone/, () => model.initialize(failing))
  await refuses(t, 'ERR_GLOW_DATA', /the database is gone/, () => model.direction(failing, failing))
})

test('a batch that is not what was asked for is refused', async (t) => {
  const bad = async (words: RegExp, answer: unknown, classes?: string[]) => {
    const data = customDataset(source(async () => answer as never, classes && { classes }))
    return refuses(t, 'ERR_GLOW_DATA', words, () => data.batch([3, 7]))
  }
  const two = pick([3, 7])
  await bad(/Expected an object for images but received undefined/, undefined)
  await bad(/images\.data/, { ...two, data: [...two.data] })
  await bad(/2 images of 8x8x1 but received 1 of 8x8x1/, pick([3]))
  await bad(/2 images of 8x8x1 but received 2 of 8x4x2/, { ...two, width: 4, channels: 2 })
  await bad(/192 values but received 128/, { ...two, count: 3 })
  await bad(/no labels, as there are no classes/, { ...two, labels: [0, 0] })
  const classes = ['across', 'down']
  await bad(/Expected labels but received none/, two, classes)
  await bad(/Expected 2 labels but received 3/, { ...two, labels: [0, 1, 0] }, classes)
  await bad(/integers of at least 0 for labels but received 0\.5 for image 1/, { ...two, labels: [0, 0.5] }, classes)
  const error = await bad(/image 7: Expected a label below 2 but received 2/, { ...two, labels: [1, 2] }, classes)
  t.is(error.details['index'], 7)
})

test('a source that cannot be used is refused at once', async (t) => {
  const bad = (words: RegExp, more: object) =>
    refuses(t, 'ERR_GLOW_OPTION', words, () => customDataset({ ...source(never), ...more } as never))
  await bad(/source\.id/, { id: '' })
  await bad(/source\.length/, { length: 0 })
  await bad(/source\.height/, { height: 1.5 })
  await bad(/source\.batch but received 3/, { batch: 3 })
  await bad(/source\.classes/, { classes: [1] })
  await refuses(t, 'ERR_GLOW_OPTION', /source/, () => customDataset(null as never))
  // One with fields and methods of its own.
  class Source {
    readonly id = 'class'
    readonly length = 2
    readonly height = 8
    readonly width = 8
    readonly channels = 1
    asked = 0
    async batch(indices: readonly number[]) {
      this.asked += indices.length
      return pick(indices)
    }
  }
  const own = new Source()
  t.is((await customDataset(own).batch([1])).count, 1)
  t.is(own.asked, 1)
})

test('a batch that never comes does not keep a run from being stopped', async (t) => {
  const late = customDataset(source(never))
  const fresh = await tiny()
  const atStart = fresh.train(late, { steps: 3 })
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.like(await atStart.stop(), { reason: 'stopped', step: 0 })

  const model = await initialized()
  let left = 2
  const data = customDataset(source(async (indices) => (left-- > 0 ? pick(indices) : never())))
  const run = model.train(data, { batchSize: 4 })
  const events: string[] = []
  for await (const event of run) {
    events.push(event.type)
    if (event.type === 'step-end' && event.step === 2) setTimeout(() => void run.stop(), 50)
  }
  t.like(await run.finished, { reason: 'stopped', step: 2 })

  const abort = new AbortController()
  const aborted = model.train(late, { steps: 9, signal: abort.signal })
  setTimeout(() => abort.abort(new Error('enough')), 50)
  await t.throwsAsync(aborted.finished, { message: 'enough' })
  // The model is free again, also where evaluation waited.
  const slow = model.train(customDataset(source(async (indices) => pick(indices))), {
    steps: 20,
    evaluate: { data: late, every: 3 },
  })
  setTimeout(() => void slow.stop(), 500)
  t.is((await slow.finished).reason, 'stopped')
  await model.initialize(all)
})

test('a call that waits for a batch can be aborted', async (t) => {
  const model = await initialized()
  const late = customDataset(source(never))
  for (const call of [
    (signal: AbortSignal) => model.evaluate(late, { signal }),
    (signal: AbortSignal) => model.direction(late, late, { signal }),
  ]) {
    const abort = new AbortController()
    setTimeout(() => abort.abort(new Error('enough')), 20)
    await t.throwsAsync(call(abort.signal), { message: 'enough' })
  }
})

test('a promise that nothing can settle any more is an error', async (t) => {
  const program = `
    import { customDataset } from 'glowflow'
    const data = customDataset({ id: 'x', length: 4, height: 8, width: 8, channels: 1, batch: () => new Promise(() => {}) })
    const collect = setInterval(gc, 10)
    await data.batch([0]).catch((error) => console.log(error.code, error.message))
    clearInterval(collect)`
  const cwd = fileURLToPath(new URL('..', import.meta.url))
  const args = ['--expose-gc', '--input-type=module', '-e', program]
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd, timeout: 60_000 })
  t.is(stdout, "ERR_GLOW_DATA the data set 'x': Expected a batch but its promise was forgotten unsettled\n")
})

test('a program ends although batches are waited for', async (t) => {
  const program = (end: string) => `
    import { createGlow, customDataset } from 'glowflow'
    const data = customDataset({ id: 'x', length: 4, height: 8, width: 8, channels: 1, batch: () => new Promise(() => {}) })
    const model = await createGlow({ imageSize: 8, channels: 1, levels: 1, depth: 1, hidden: 4, device: 'cpu' })
    await model.initialize({ data: new Uint8Array(256).map((_, i) => i * 7), count: 4, height: 8, width: 8, channels: 1 })
    const run = model.train(data)
    ${end}`
  const cwd = fileURLToPath(new URL('..', import.meta.url))
  const started = Date.now()
  for (const end of [
    'data.batch([0]); setTimeout(() => { console.log("ends"); process.exit() }, 100)',
    'run.unref(); setTimeout(() => console.log("ends"), 100)',
    'setTimeout(async () => { await run.stop(); console.log("ends") }, 100)',
  ]) {
    const args = ['--input-type=module', '-e', program(end)]
    const { stdout } = await promisify(execFile)(process.execPath, args, { cwd, timeout: 60_000 })
    t.is(stdout, 'ends\n')
  }
  t.true(Date.now() - started < 60_000)
})
