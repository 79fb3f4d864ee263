import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import test from 'ava'
import { loadModel, resumeTraining } from 'glowflow'

import { folder, refuses, slopesData, tiny } from './helpers.js'

const data = slopesData(64)
const options = { batchSize: 8, initImages: 32, warmup: 0, seed: 5 }

/** The lines of a run's metrics. */
async function metrics(dir: string): Promise<Record<string, unknown>[]> {
  const text = await readFile(join(dir, 'metrics.jsonl'), 'utf8')
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
}

test('a run leaves everything in its folder, and goes on in it', async (t) => {
  const dir = await folder(t)
  const model = await tiny()
  const evaluate = { data, every: 5, limit: 16 }
  const sample = { every: 10, count: 4 }
  await model.train(data, { ...options, steps: 12, folder: dir, evaluate, sample, checkpoint: { every: 6 } }).finished
  t.deepEqual((await readdir(dir)).filter((name) => !/^\.|tfevents/.test(name)).toSorted(), [
    'checkpoints',
    'config.json',
    'loss.png',
    'loss.svg',
    'metrics.jsonl',
    'samples',
  ])
  t.is((await readdir(dir)).filter((name) => name.includes('tfevents')).length, 1)
  t.deepEqual((await readdir(join(dir, 'samples'))).toSorted(), [
    'step-00000000.png',
    'step-00000010.png',
    'step-00000012.png',
  ])
  const config = JSON.parse(await readFile(join(dir, 'config.json'), 'utf8'))
  t.like(config, {
    model: { depth: 2 },
    train: { batchSize: 8, steps: 12 },
    data: { images: 64, fingerprint: data.fingerprint },
  })

  const { run } = await resumeTraining(dir, data, { steps: 15, evaluate })
  await run.finished
  const steps = (await metrics(dir)).filter(({ type }) => type === 'step-end').map(({ step }) => step)
  t.deepEqual(
    steps,
    Array.from({ length: 15 }, (_, step) => step + 1),
  )
  t.is((await loadModel(join(dir, 'checkpoints', 'latest'))).step, 15)
})

test('two runs in one folder: the second is refused', async (t) => {
  const dir = await folder(t)
  const first = (await tiny()).train(data, { ...options, folder: dir })
  for await (const event of first) if (event.type === 'step-end') break
  const second = await tiny()
  const error = await refuses(
    t,
    'ERR_GLOW_LOCKED',
    /in use by the run of process \d+/,
    () => second.train(data, { ...options, steps: 1, folder: dir }).finished,
  )
  t.like(error.details, { path: dir, pid: process.pid })
  await refuses(
    t,
    'ERR_GLOW_LOCKED',
    /checkpoints is in use/,
    () => second.train(data, { ...options, steps: 1, checkpoint: { folder: join(dir, 'checkpoints') } }).finished,
  )
  await first.stop()
  t.is((await second.train(data, { ...options, steps: 100_000, folder: join(dir, 'other') }).stop()).reason, 'stopped')
})

test('checkpoints and samples need a place, and so does going back to one', async (t) => {
  const model = await tiny()
  const bad = (words: RegExp, given: object) =>
    refuses(t, 'ERR_GLOW_OPTION', words, () => model.train(data, { steps: 1, ...given }))
  await bad(/a path, as the run has no folder, for checkpoint.folder/, { checkpoint: { every: 5 } })
  await bad(/a path, as the run has no folder, for sample.folder/, { sample: {} })
  await bad(/'stop', as there are no checkpoints to go back to, for onNotFinite/, { onNotFinite: 'rollback' })
  await bad(/a part of the size from 0 to 0.5 for augment.shift but received 0.6/, { augment: { shift: 0.6 } })
  await bad(/a number between 0 and 1 for ema but received 1/, { ema: 1 })
  await bad(/Unknown option optimizer.nam, .* optimizer.name/, { optimizer: { nam: 'adamax' } })
})

test('a disk that is full while a checkpoint is written leaves the one before it', async (t) => {
  const dir = await folder(t)
  const script = fileURLToPath(new URL('children/full-disk.ts', import.meta.url))
  // Files may not grow beyond this, as if the disk were full; the signal that goes with it is ignored.
  const limited = `trap '' XFSZ; ulimit -f 300; exec "$@"`
  const args = ['-c', limited, 'sh', process.execPath, '--import=@oxc-node/core/register', script, dir]
  const { stdout } = await promisify(execFile)('sh', args)
  t.deepEqual(stdout.trim().split('\n'), ['small 4', 'CHECKPOINT_FAILED 8', 'ERR_GLOW_IO', 'latest step-00000004'])
  t.is((await loadModel(dir)).step, 4)
  const names = await readdir(dir)
  t.deepEqual(
    names.filter((name) => name.includes('unfinished')),
    [],
  )
})
