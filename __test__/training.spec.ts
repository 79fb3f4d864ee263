import { execFile } from 'node:child_process'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import test from 'ava'
import { customDataset, loadModel, type TrainEvent } from 'glowflow'

import { folder, refuses, slopes, slopesData, tiny } from './helpers.js'

const data = slopesData(64)
const quick = { batchSize: 8, initImages: 32, warmup: 1, seed: 5 } as const

test('events come in order and the last one is run-end', async (t) => {
  const model = await tiny()
  const run = model.train(data, { ...quick, steps: 20, evaluate: { data, every: 10, limit: 16 } })
  const events: TrainEvent[] = []
  for await (const event of run) events.push(event)
  const kinds = events.map(({ type }) => type)
  t.is(kinds[0], 'run-start')
  t.is(kinds.at(-1), 'run-end')
  t.is(kinds.filter((kind) => kind === 'evaluation-end').length, 2)
  const steps = events.filter((event) => event.type === 'step-end')
  t.is(
    steps.reduce((sum, { merged }) => sum + merged, 0),
    20,
  )
  t.is(steps.at(-1)?.step, 20)
  t.true(
    steps.every(({ loss, gradientNorm, learningRate, imagesPerSecond }) =>
      [loss, gradientNorm, learningRate, imagesPerSecond].every((value) => Number.isFinite(value) && value > 0),
    ),
  )
  const summary = await run.finished
  t.is(summary.reason, 'finished')
  t.is(summary.step, 20)
  t.is(model.step, 20)
  t.true(model.initialized)
  t.deepEqual(events.at(-1), { type: 'run-end', summary })
})

test('whoever listens late gets the start of the run first', async (t) => {
  const model = await tiny()
  const run = model.train(data, quick)
  const first = async () => {
    for await (const event of run) return event
  }
  // The start was told long before this step.
  for await (const event of run) if (event.type === 'step-end') break
  const start = { type: 'run-start', step: 0, batchesPerEpoch: 8, seconds: 0 } as const
  t.deepEqual([await first(), await first()], [start, start])
  const types: string[] = []
  for await (const { type } of run) if (types.push(type) === 2) break
  t.deepEqual(types, ['run-start', 'step-end'])
  await run.stop()
})

test('training lowers the bits per dimension', async (t) => {
  const model = await tiny()
  await model.initialize(data)
  const before = await model.evaluate(data)
  await model.train(data, { ...quick, steps: 150, optimizer: { learningRate: 3e-3 } }).finished
  const after = await model.evaluate(data)
  t.true(after.bitsPerDim < before.bitsPerDim - 0.1, `${before.bitsPerDim} -> ${after.bitsPerDim}`)
})

test('the same seed trains the same weights', async (t) => {
  const train = async () => {
    const model = await tiny()
    await model.train(data, { ...quick, steps: 10 }).finished
    return model.encode(slopes(2))
  }
  t.deepEqual(await train(), await train())
})

test('a run needs no reader, and one that comes late gets the last event', async (t) => {
  const model = await tiny()
  const run = model.train(data, { ...quick, steps: 5 })
  await run.finished
  const events: TrainEvent[] = []
  for await (const event of run) events.push(event)
  t.deepEqual(
    events.map(({ type }) => type),
    ['run-end'],
  )
})

test('a slow reader gets merged steps and every milestone, and does not slow the run', async (t) => {
  const model = await tiny()
  const run = model.train(data, { ...quick, steps: 60, evaluate: { data, every: 20, limit: 8 } })
  const fast: TrainEvent[] = []
  const slow: TrainEvent[] = []
  const read = async () => {
    for await (const event of run) fast.push(event)
  }
  const reading = read()
  let steps = 0
  for await (const event of run) {
    slow.push(event)
    if (event.type === 'step-end') steps += event.merged
    if (slow.length === 2) await run.finished
  }
  await reading
  t.is(steps, 60)
  const milestones = (events: TrainEvent[]) => events.filter(({ type }) => type !== 'step-end')
  t.deepEqual(milestones(slow), milestones(fast))
  t.true(slow.filter(({ type }) => type === 'step-end').length <= 6)
})

test('leaving the loop or throwing in it does not stop the run', async (t) => {
  const model = await tiny()
  const run = model.train(data, { ...quick, steps: 30 })
  for await (const event of run) if (event.type === 'step-end') break
  await t.throwsAsync(
    async () => {
      for await (const event of run) if (event.type === 'step-end') throw new Error('of the reader')
    },
    { message: 'of the reader' },
  )
  t.is((await run.finished).step, 30)
})

test('stop ends after the step under way, with a checkpoint', async (t) => {
  const dir = await folder(t)
  const model = await tiny()
  const run = model.train(data, { ...quick, checkpoint: { folder: dir, every: 1_000_000 } })
  for await (const event of run) if (event.type === 'step-end') break
  const summary = await run.stop()
  t.is(summary.reason, 'stopped')
  t.truthy(summary.checkpoint)
  const saved = await loadModel(summary.checkpoint!, { device: 'cpu' })
  t.is(saved.step, summary.step)
  t.deepEqual(await saved.encode(slopes(2)), await model.encode(slopes(2)))
  t.is((await run.stop()).step, summary.step)
})

test('checkpoints and samples are written and named', async (t) => {
  const dir = await folder(t)
  const [checkpoints, samples] = [join(dir, 'checkpoints'), join(dir, 'samples')]
  const model = await tiny()
  const run = model.train(data, {
    ...quick,
    steps: 8,
    checkpoint: { folder: checkpoints, every: 2, keep: 2 },
    sample: { folder: samples, every: 4, count: 4 },
  })
  const paths = new Set<string>()
  for await (const event of run) {
    if (event.type === 'sample-end') paths.add(event.path)
    if (event.type === 'checkpoint-end') t.truthy(event.path)
  }
  t.is((await readdir(checkpoints)).filter((name) => /\d/.test(name)).length, 2)
  t.deepEqual((await readdir(samples)).map((name) => join(samples, name)).toSorted(), [...paths].toSorted())
  t.is(paths.size, 3)
})

test('a signal ends the run and is what finished and the readers throw', async (t) => {
  const model = await tiny()
  const reason = new Error('enough')
  const controller = new AbortController()
  const run = model.train(data, { ...quick, signal: controller.signal })
  await t.throwsAsync(
    async () => {
      for await (const event of run) if (event.type === 'step-end') controller.abort(reason)
    },
    { is: reason },
  )
  t.is(await run.finished.catch((error: unknown) => error), reason)
  await t.throwsAsync(model.train(data, { ...quick, signal: AbortSignal.abort(reason) }).finished, { is: reason })
  t.is((await model.train(data, { ...quick, steps: model.step + 2 }).finished).reason, 'finished')
})

test('a failure is thrown to every reader and rejects finished', async (t) => {
  const dir = await folder(t)
  const file = join(dir, 'not-a-folder')
  await writeFile(file, '')
  const model = await tiny()
  const run = model.train(data, { ...quick, steps: 20, checkpoint: { folder: join(file, 'inside'), every: 2 } })
  const read = async () => {
    for await (const _ of run);
  }
  const errors = await Promise.all(
    [read(), read(), run.finished].map((promise) => promise.catch((error: unknown) => error)),
  )
  await refuses(t, 'ERR_GLOW_IO', /not-a-folder/, () => Promise.reject(errors[0]))
  t.is(errors[0], errors[1])
  t.is(errors[0], errors[2])
  await t.throwsAsync(read, { is: errors[0] as Error })
})

test('a model is trained by one run at a time, and is not initialized meanwhile', async (t) => {
  const model = await tiny()
  const run = model.train(data, quick)
  await refuses(t, 'ERR_GLOW_BUSY', /in training/, () => model.train(data, quick))
  await refuses(t, 'ERR_GLOW_BUSY', /in training/, () => model.initialize(data))
  await run.stop()
  await model.train(data, { ...quick, steps: model.step + 1 }).finished
  t.pass()
})

test('other calls are served during a run', async (t) => {
  const model = await tiny()
  const run = model.train(data, quick)
  for await (const event of run) if (event.type === 'step-end') break
  t.is((await model.sample({ count: 2 })).count, 2)
  t.is((await model.encode(slopes(3))).count, 3)
  await run.stop()
})

test('disposing of a model stops its run', async (t) => {
  const model = await tiny()
  const run = model.train(data, quick)
  await sleep(20)
  await model.dispose()
  t.is((await run.finished).reason, 'stopped')
  await refuses(t, 'ERR_GLOW_DISPOSED', /disposed/, () => model.train(data, quick))
})

/** Runs a program in a process of its own and gives what it printed and how it ended. */
async function program(body: string): Promise<{ stdout: string; code: number; stderr: string }> {
  const source = `import { createGlow, imagesInMemory } from 'glowflow'
    const data = imagesInMemory({ data: Uint8Array.from({ length: 64 * 64 }, (_, i) => i * 7), count: 64, height: 8, width: 8, channels: 1 })
    const model = await createGlow({ imageSize: 8, channels: 1, levels: 1, depth: 1, hidden: 4, device: 'cpu' })
    ${body}`
  const cwd = fileURLToPath(new URL('..', import.meta.url))
  try {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', source], {
      cwd,
      timeout: 60_000,
    })
    return { stdout, stderr, code: 0 }
  } catch (error) {
    const { stdout, stderr, code } = error as { stdout: string; stderr: string; code: number }
    return { stdout, stderr, code }
  }
}

test('a run keeps the process alive until it is over', async (t) => {
  const { stdout, code } = await program(
    `model.train(data, { steps: 200 }).finished.then(({ step }) => console.log('over at', step))`,
  )
  t.is(stdout, 'over at 200\n')
  t.is(code, 0)
})

test('an unref-ed run lets the process go', async (t) => {
  const { stdout, code } = await program(`model.train(data).unref(); console.log('bye')`)
  t.is(stdout, 'bye\n')
  t.is(code, 0)
})

test('process.exit during a run is an ordinary exit', async (t) => {
  const { code } = await program(`model.train(data); setTimeout(() => process.exit(7), 100)`)
  t.is(code, 7)
})

test('a worker that ends during a run harms nobody', async (t) => {
  const { stdout, code } = await program(`
    const { Worker } = await import('node:worker_threads')
    const source = \`import { createGlow, imagesInMemory } from 'glowflow'
      import { parentPort } from 'node:worker_threads'
      const data = imagesInMemory({ data: Uint8Array.from({ length: 64 * 64 }, (_, i) => i * 7), count: 64, height: 8, width: 8, channels: 1 })
      const model = await createGlow({ imageSize: 8, channels: 1, levels: 1, depth: 1, hidden: 4, device: 'cpu' })
      for await (const event of model.train(data)) if (event.type === 'step-end') parentPort.postMessage(event.step)\`
    const worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(source.replace("'glowflow'", JSON.stringify(import.meta.resolve('glowflow'))))))
    await new Promise((resolve) => worker.once('message', resolve))
    await worker.terminate()
    await new Promise((resolve) => setTimeout(resolve, 200))
    console.log('still here')
    process.exit(0)`)
  t.is(stdout, 'still here\n')
  t.is(code, 0)
})

test('a failure that nobody looks at is an unhandled rejection, one that is read is not', async (t) => {
  const failing = `model.train(data, { steps: 4, batchSize: 8, checkpoint: { folder: '/dev/null/inside', every: 1 } })`
  const unread = await program(failing)
  t.is(unread.code, 1)
  t.regex(unread.stderr, /ERR_GLOW_IO/)
  const read = await program(`try { for await (const _ of ${failing}); } catch (error) { console.log(error.code) }`)
  t.is(read.stdout, 'ERR_GLOW_IO\n')
  t.is(read.code, 0)
})

test('what fails after the last step costs no checkpoint', async (t) => {
  const dir = await folder(t)
  const batch = () => Promise.reject(new Error('gone'))
  const gone = customDataset({ id: 'gone', length: 8, height: 8, width: 8, channels: 1, batch })
  const checkpoint = { folder: join(dir, 'checkpoints') }
  const run = (await tiny()).train(data, { ...quick, steps: 3, checkpoint, evaluate: { data: gone, every: 100 } })
  await refuses(t, 'ERR_GLOW_DATA', /gone/, () => run.finished)
  t.is((await loadModel(checkpoint.folder)).step, 3)
})
