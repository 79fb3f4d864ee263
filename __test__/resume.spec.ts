import { spawn } from 'node:child_process'
import { cp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import test from 'ava'
import { imagesInMemory, loadModel, resumeTraining, type TrainEvent } from 'glowflow'

import { folder, refuses, slopes, slopesData, tiny } from './helpers.js'

const script = fileURLToPath(new URL('children/train.ts', import.meta.url))

/** The lines of `children/train.ts`. */
function train(threads: number, ...args: string[]): Promise<string[]> {
  const child = spawn(process.execPath, ['--import=@oxc-node/core/register', script, ...args], {
    env: { ...process.env, GLOWFLOW_THREADS: `${threads}` },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (part: string) => (text += part))
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => {
      if (code === 0 || signal === 'SIGKILL') resolve(text.trim().split('\n'))
      else reject(new Error(`exit code ${code}`))
    })
  })
}

/** What a run leaves to be seen. */
const names = async (dir: string) => (await readdir(dir)).filter((name) => !name.startsWith('.')).toSorted()

/** A checkpoint's bytes: its model, and the tensors and state of its run but for the time that it took. */
async function contents(checkpoint: string) {
  const model = await readFile(join(checkpoint, 'model.safetensors'))
  const training = await readFile(join(checkpoint, 'training.safetensors'))
  const end = 8 + Number(training.readBigUInt64LE())
  const header = JSON.parse(training.subarray(8, end).toString())
  const metadata: { state: string } = header['__metadata__']
  const state = JSON.parse(metadata.state)
  // The folders of two runs differ, and so does the time that they took.
  delete state.seconds
  delete state.train
  return { model, tensors: training.subarray(end), names: Object.keys(header), state }
}

for (const threads of [1, 2])
  test(`a run that is killed and resumed in a new process ends in the same bytes, ${threads} threads`, async (t) => {
    const [whole, cut] = [await folder(t), await folder(t)]
    await train(threads, whole, '120', 'start')
    // Between two checkpoints and in the middle of an epoch, wherever the run is when it hears of step 15.
    await train(threads, cut, '120', 'start', '15')
    t.false((await readdir(cut)).includes('step-00000120'), 'it was cut')
    const lines = await train(threads === 1 ? 2 : 1, cut, '120', 'resume')
    t.is(lines.at(-1), 'checkpoint 120')
    t.not(lines[0], 'step 1')

    const [expected, found] = [await contents(join(whole, 'step-00000120')), await contents(join(cut, 'step-00000120'))]
    t.deepEqual(found.names, expected.names)
    t.true(
      found.names.includes('weights.levels.0.steps.0.mix.actnorm.bias'),
      'the weights behind the average are there',
    )
    t.true(found.tensors.equals(expected.tensors), 'weights and optimizer')
    t.true(found.model.equals(expected.model), 'the average')
    t.deepEqual(found.state, expected.state)
    t.is(found.state.images, 120 * 21)
    t.false(found.model.equals((await contents(join(cut, 'step-00000114'))).model), 'it was trained after the cut')
  })

const options = { batchSize: 8, initImages: 32, warmup: 0, seed: 5 }

/** A run of ten steps and its checkpoint. */
async function trained(dir: string) {
  const data = slopesData(64)
  const model = await tiny()
  const summary = await model.train(data, { ...options, steps: 10, checkpoint: { folder: dir, every: 5 } }).finished
  return { data, model, summary }
}

test('a finished run goes on with a higher limit, and with other options where they are given', async (t) => {
  const dir = await folder(t)
  const { data } = await trained(dir)
  const { model, run } = await resumeTraining(dir, data, {
    steps: 12,
    optimizer: { learningRate: 1e-4 },
    device: 'cpu',
  })
  const rates: number[] = []
  for await (const event of run) if (event.type === 'step-end') rates.push(event.learningRate)
  t.true(rates.every((rate) => rate === 1e-4))
  t.is((await run.finished).step, 12)
  t.is(model.step, 12)
  t.deepEqual(await names(dir), ['latest', 'step-00000005', 'step-00000010', 'step-00000012'])
  t.is((await readFile(join(dir, 'latest'), 'utf8')).trim(), 'step-00000012')

  const over = await resumeTraining(join(dir, 'latest'), data, { steps: 12 })
  t.deepEqual(await over.run.finished.then(({ reason, step }) => ({ reason, step })), { reason: 'finished', step: 12 })
})

test('the best checkpoint stays and is what a folder loads', async (t) => {
  const dir = await folder(t)
  const data = slopesData(64)
  const model = await tiny()
  // A rate that is far too large from step 12 on: the best evaluation comes before.
  const checkpoint = { folder: dir, every: 1_000_000, keep: 1 }
  const evaluate = { data, every: 4, limit: 32 }
  await model.train(data, { ...options, steps: 12, checkpoint, evaluate }).finished
  const { run } = await resumeTraining(dir, data, { steps: 20, optimizer: { learningRate: 0.02 }, evaluate })
  const scores: [step: number, bits: number][] = []
  for await (const event of run) if (event.type === 'evaluation-end') scores.push([event.step, event.bitsPerDim])
  t.deepEqual(await names(dir), ['best', 'latest', 'step-00000012', 'step-00000020'])
  t.is((await readFile(join(dir, 'best'), 'utf8')).trim(), 'step-00000012')
  t.is((await loadModel(dir)).step, 12)
  t.is((await loadModel(join(dir, 'latest'))).step, 20)
  const best = await loadModel(join(dir, 'best'))
  const { bitsPerDim } = await best.evaluate(data, { limit: 32, seed: options.seed })
  t.true(scores.every(([, bits]) => bits > bitsPerDim))
})

test('a run continues in a folder that was moved', async (t) => {
  const dir = await folder(t)
  const { data } = await trained(join(dir, 'before'))
  await cp(join(dir, 'before'), join(dir, 'after'), { recursive: true })
  await rm(join(dir, 'before'), { recursive: true })
  const { run } = await resumeTraining(join(dir, 'after'), data, { steps: 11 })
  t.is((await run.finished).checkpoint, join(dir, 'after', 'step-00000011'))
  t.deepEqual(await readdir(dir), ['after'])
})

test('what does not fit is refused by name', async (t) => {
  const dir = await folder(t)
  const { data } = await trained(dir)
  const resume = (path = dir, given = data, changed = {}) =>
    resumeTraining(path, given, { steps: 11, ...changed }).then(({ run }) => run.finished)

  await refuses(t, 'ERR_GLOW_DATA', /the training data: Expected those of the checkpoint, \w+, but/, () =>
    resume(dir, slopesData(32)),
  )
  await refuses(t, 'ERR_GLOW_SHAPE', /training images of 8x8x1 but received 4x8x1/, () =>
    resume(dir, imagesInMemory(slopes(64, { height: 4 }))),
  )
  await refuses(t, 'ERR_GLOW_OPTION', /adam, as in the checkpoint, for optimizer.name but received adamax/, () =>
    resume(dir, data, { optimizer: { name: 'adamax' } }),
  )
  await refuses(t, 'ERR_GLOW_OPTION', /without checkpoints after step 5 for checkpoint.folder.*step-00000010/, () =>
    resume(join(dir, 'step-00000005')),
  )
  await refuses(t, 'ERR_GLOW_IO', /nowhere/, () => resume(join(dir, 'nowhere')))
  const empty = await folder(t)
  await refuses(t, 'ERR_GLOW_FILE', /Expected a checkpoint, or a folder of some, but found none/, () => resume(empty))

  const file = join(dir, 'step-00000010', 'training.safetensors')
  const good = await readFile(file)
  const at = 8 + Number(good.readBigUInt64LE())
  const bad = async (words: RegExp, code: 'ERR_GLOW_FILE' | 'ERR_GLOW_WEIGHTS', spoil: (bytes: Buffer) => Buffer) => {
    await writeFile(file, spoil(Buffer.from(good)))
    await refuses(t, code, words, () => resume())
  }
  await bad(/truncated/, 'ERR_GLOW_FILE', (bytes) => bytes.subarray(0, -4))
  await bad(/checksum/, 'ERR_GLOW_FILE', (bytes) => (bytes.writeUInt8(bytes[at]! ^ 1, at), bytes))
  await bad(/Expected version 1 of the format but found 9/, 'ERR_GLOW_FILE', (bytes) =>
    uncheck(bytes, '"version":"1"', '"version":"9"'),
  )
  await bad(/Expected finite numbers in first\.levels\S+ but found NaN/, 'ERR_GLOW_WEIGHTS', (bytes) => {
    bytes.writeFloatLE(Number.NaN, at)
    return uncheck(bytes, '"version":"1"', '"version":"1"')
  })
  await writeFile(file, good)
  t.is((await resume()).step, 11)
})

/** A file without its checksum, with a string of its header replaced by another of its length. */
function uncheck(bytes: Buffer, from: string, to: string): Buffer {
  const end = 8 + Number(bytes.readBigUInt64LE())
  const header = bytes.subarray(8, end).toString().replace('"checksum":', '"chequesm":').replace(from, to)
  bytes.write(header, 8)
  return bytes
}

test('with an average everything but training uses it', async (t) => {
  const dir = await folder(t)
  const data = slopesData(64)
  const images = slopes(4)
  const model = await tiny()
  const run = model.train(data, { ...options, steps: 30, ema: 0.95, checkpoint: { folder: dir, every: 10 } })
  const during: Float64Array[] = []
  for await (const event of run)
    if (event.type === 'checkpoint-end' && event.step === 30) during.push(await model.bitsPerDim(images))
  const after = await model.bitsPerDim(images)
  const file = join(dir, 'saved')
  await model.save(file)

  // The same run without an average makes the weights behind it.
  const raw = await tiny()
  await raw.train(data, { ...options, steps: 30 }).finished
  t.notDeepEqual(await raw.bitsPerDim(images), after)
  t.notDeepEqual((await raw.sample({ seed: 3 })).data, (await model.sample({ seed: 3 })).data)
  t.deepEqual(during, [after])
  t.deepEqual(await (await loadModel(dir)).bitsPerDim(images), after)
  t.deepEqual(await (await loadModel(file)).bitsPerDim(images), after)
  t.deepEqual(await (await loadModel(file)).encode(images), await model.encode(images))
})

test('events of a resumed run start where it was', async (t) => {
  const dir = await folder(t)
  const { data, summary } = await trained(dir)
  const { run } = await resumeTraining(dir, data, { steps: 12 })
  const events: TrainEvent[] = []
  for await (const event of run) events.push(event)
  const start = events[0]
  if (start?.type !== 'run-start') throw new Error(`Started with ${start?.type}`)
  t.is(start.step, 10)
  // Those of the checkpoint, which was written before the run was over.
  t.true(start.seconds > 0 && start.seconds <= summary.seconds, `${start.seconds} of ${summary.seconds}`)
  // A slow reader gets both steps as one.
  const ends = events.filter((event) => event.type === 'step-end')
  const steps = ends.map(({ step, epoch, merged }) => [step - merged, step, epoch])
  t.deepEqual(
    steps,
    ends.length === 1
      ? [[10, 12, 1]]
      : [
          [10, 11, 1],
          [11, 12, 1],
        ],
  )
})

test('one checkpoint that is copied elsewhere leaves the run alone', async (t) => {
  const [dir, elsewhere] = [await folder(t), await folder(t)]
  const data = slopesData(64)
  const run = join(dir, 'run')
  await (await tiny()).train(data, { ...options, steps: 10, folder: run, checkpoint: { every: 5 } }).finished
  const before = await readFile(join(run, 'metrics.jsonl'), 'utf8')
  await cp(join(run, 'checkpoints', 'step-00000005'), join(elsewhere, 'copy'), { recursive: true })
  const resumed = await resumeTraining(join(elsewhere, 'copy'), data, { steps: 7 })
  t.is((await resumed.run.finished).checkpoint, join(elsewhere, 'step-00000007'))
  t.is(await readFile(join(run, 'metrics.jsonl'), 'utf8'), before)
})
