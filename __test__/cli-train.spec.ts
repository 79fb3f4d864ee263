import { once } from 'node:events'
import { readdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'
import { directionFromJSON, imagesInMemory, listLayers, loadModel, pngGrid, type TrainEvent } from 'glowflow'

import { glowflow, idxFolder, start, writeIdx } from './cli-helpers.js'
import { folder, slopes } from './helpers.js'

const small = ['--levels', '2', '--depth', '2', '--hidden', '8', '--device', 'cpu', '--batch-size', '8', '--seed', '1']
const events = (stdout: string): TrainEvent[] =>
  stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))

test('a model is trained, and what it gives is what the API gives', async (t) => {
  const dir = await folder(t)
  const data = await idxFolder(dir, 64)
  const trained = await glowflow(
    [
      'train',
      '--data',
      data,
      ...small,
      '--steps',
      '40',
      '--warmup',
      '1',
      '--eval-fraction',
      '0.25',
      '--eval-every',
      '20',
      '--out',
      'run',
      '--json',
    ],
    dir,
  )
  t.is(trained.code, 0, trained.stderr)
  t.regex(
    trained.stderr,
    /IDX file .*train-images-idx3-ubyte with train-labels-idx1-ubyte: 64 images of 8x8x1 of 2 classes\n/,
  )
  const all = events(trained.stdout)
  t.is(all[0]?.type, 'run-start')
  t.is(all.filter(({ type }) => type === 'evaluation-end').length, 2)
  const last = all.at(-1)!
  if (last.type !== 'run-end') throw new Error(`Ended with ${last.type}`)
  t.like(last.summary, { step: 40, reason: 'finished' })
  const path = last.summary.checkpoint!
  t.true(path.startsWith(join(dir, 'run', 'checkpoints')))
  t.deepEqual((await readdir(join(dir, 'run', 'samples'))).length, 2)

  const of = ['--model', 'run', '--device', 'cpu', '--json']
  const run = async (args: string[]) => {
    const { code, stdout, stderr } = await glowflow(args, dir)
    t.is(code, 0, stderr)
    return JSON.parse(stdout)
  }
  const images = slopes(64)
  await using model = await loadModel(path, { device: 'cpu' })

  t.deepEqual(await run(['encode', ...of, '--data', data, '--count', '12']), {
    file: 'latents.npy',
    count: 12,
    dims: 64,
    scales: [
      { offset: 0, shape: [4, 4, 2] },
      { offset: 32, shape: [2, 2, 8] },
    ],
  })
  const npy = await readFile(join(dir, 'latents.npy'))
  const first12 = { ...images, count: 12, data: images.data.slice(0, 12 * 64) }
  const latents = await model.encode(first12)
  t.deepEqual(new Float32Array(new Uint8Array(npy.subarray(-12 * 64 * 4)).buffer), latents.data)

  const decoded = await run(['decode', ...of, '--latents', 'latents.npy', '--out', 'decoded'])
  t.is(decoded.files.length, 12)
  for (const [index, file] of decoded.files.entries()) {
    const original = { ...images, count: 1, data: images.data.slice(index * 64, (index + 1) * 64) }
    // oxlint-disable-next-line no-await-in-loop
    t.deepEqual(new Uint8Array(await readFile(join(dir, file))), new Uint8Array(await pngGrid(original, { gap: 0 })))
  }

  await run([
    'sample',
    ...of,
    '--count',
    '6',
    '--temperature',
    '0.5',
    '--seed',
    '3',
    '--columns',
    '3',
    '--out',
    'grid.png',
  ])
  const drawn = await model.sample({ count: 6, temperature: 0.5, seed: 3 })
  t.deepEqual(
    new Uint8Array(await readFile(join(dir, 'grid.png'))),
    new Uint8Array(await pngGrid(drawn, { columns: 3 })),
  )

  const { seconds, ...score } = await run([
    'eval',
    ...of,
    '--data',
    join(data, 'train-images-idx3-ubyte'),
    '--limit',
    '20',
    '--seed',
    '5',
  ])
  t.true(seconds > 0)
  t.deepEqual(score, await model.evaluate(imagesInMemory(images), { limit: 20, seed: 5 }))

  const two = ['--having', data, '--without', join(dir, 'dark'), '--out', 'darker.json']
  const dark = { ...images, data: images.data.map((value) => value >> 1) }
  await writeIdx(join(dir, 'dark'), dark)
  t.deepEqual(await run(['direction', ...of, ...two]), { file: 'darker.json', directions: ['direction'] })
  const direction = directionFromJSON(JSON.parse(await readFile(join(dir, 'darker.json'), 'utf8')))
  t.deepEqual(direction.data, (await model.direction(images, dark)).data)
  await run(['shift', ...of, '--data', data, '--count', '2', '--direction', 'darker.json', '--amounts=-1,0,1'])
  const shifted = await model.shift({ ...images, count: 2, data: images.data.slice(0, 128) }, direction, {
    amounts: [-1, 0, 1],
  })
  t.deepEqual(
    new Uint8Array(await readFile(join(dir, 'shifted.png'))),
    new Uint8Array(await pngGrid(shifted, { columns: 3 })),
  )

  t.like(await run(['verify', ...of, '--data', data, '--count', '64']), { images: 64, pixelMismatches: 0 })
  t.like(await run(['info', ...of]), {
    step: 40,
    initialized: true,
    config: model.config,
    layers: listLayers(model.config),
    memory: { parameters: model.parameterCount },
  })

  const again = await glowflow(['train', '--data', data, ...small, '--steps', '1', '--out', 'run'], dir)
  t.is(again.code, 2)
  t.regex(again.stderr, /holds a run already: go on with --resume/)
  // A folder that the engine refuses is left as it is.
  await rm(join(dir, 'run', 'settings.json'))
  const refused = await glowflow(['train', '--data', data, ...small, '--steps', '1', '--out', 'run'], dir)
  t.regex(refused.stderr, /Expected a folder without checkpoints/)
  t.false((await readdir(join(dir, 'run'))).includes('settings.json'))
})

test('a run goes on as if it had never been cut, and one that has finished says so', async (t) => {
  const dir = await folder(t)
  const data = ['--data', await idxFolder(dir, 64), '--eval-fraction', '0.25', '--eval-every', '5']
  const [whole, cut] = await Promise.all([
    glowflow(['train', ...data, ...small, '--steps', '16', '--out', 'whole', '--json'], dir),
    glowflow(['train', ...data, ...small, '--steps', '6', '--out', 'cut', '--json'], dir),
  ])
  t.deepEqual([whole.code, cut.code], [0, 0], whole.stderr + cut.stderr)
  const rest = await glowflow(['train', '--resume', 'cut', '--steps', '16', '--json'], dir)
  t.is(rest.code, 0, rest.stderr)
  const scores = (stdout: string) => events(stdout).filter((event) => event.type === 'evaluation-end' && event.step > 6)
  t.is(scores(whole.stdout).length, 3)
  t.deepEqual(scores(rest.stdout), scores(whole.stdout))
  const [finished, model, out] = await Promise.all([
    glowflow(['train', '--resume', join('cut', 'checkpoints')], dir),
    glowflow(['train', '--resume', 'whole', '--hidden', '3'], dir),
    glowflow(['train', '--resume', 'whole', '--seed', '3'], dir),
  ])
  t.is(finished.stdout, 'The run has finished at step 16 already: raise --steps, --epochs or --seconds to go on.\n')
  t.deepEqual([finished.code, model.code, out.code], [0, 2, 2])
  t.regex(model.stderr, /Expected no --hidden with --resume/)
})

test('for people: no escape codes without a terminal, results on stdout, the rest on stderr', async (t) => {
  const dir = await folder(t)
  const data = await idxFolder(dir, 32)
  const { code, stdout, stderr } = await glowflow(['train', '--data', data, ...small, '--epochs', '3'], dir)
  t.is(code, 0)
  t.regex(
    stdout,
    /^Finished at step 12 after \d+\.\d s, \d+\.\d{3} bits\/dim\. Next: glowflow sample --model runs\/glowflow-\w+-\d{8}-\d{6}\n$/i,
  )
  t.regex(stderr, /step 1\/12, \d+\.\d{3} bits\/dim, \d+ images\/s/)
  t.false((stdout + stderr).includes('\u001B'))
})

test('what is left is said in steps of several batches, and in seconds where a run goes on', async (t) => {
  const dir = await folder(t)
  const data = ['--data', await idxFolder(dir, 32)]
  const steps = await glowflow(['train', ...data, ...small, '--epochs', '3', '--accumulate', '2'], dir)
  t.regex(steps.stderr, /step 1\/6, /)
  await glowflow(['train', ...data, ...small, '--seconds', '2', '--out', 'cut'], dir)
  const rest = await glowflow(['train', '--resume', 'cut', '--seconds', '3'], dir)
  const [, left] = /step \d+, .* images\/s, ([\d.]+) s left\n/.exec(rest.stderr) ?? []
  // Of the three seconds two were over; how much of the third is left depends on how busy the machine is.
  t.true(Number(left) <= 1, rest.stderr)
})

test('Ctrl-C and SIGTERM end a run with a checkpoint', async (t) => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    // oxlint-disable-next-line no-await-in-loop -- One after the other: both want the processor.
    const dir = await folder(t)
    // oxlint-disable-next-line no-await-in-loop
    const run = start(['train', '--data', await idxFolder(dir, 32), ...small, '--out', 'run', '--json'], dir)
    // oxlint-disable-next-line no-await-in-loop
    await run.says(/step-end/)
    run.child.kill(signal)
    // oxlint-disable-next-line no-await-in-loop
    const { code, stdout, stderr } = await run.ended
    t.is(code, 0)
    t.regex(stderr, /Ending after the step under way; Ctrl-C again to quit at once/)
    const last = events(stdout).at(-1)!
    if (last.type !== 'run-end') throw new Error(`Ended with ${last.type}`)
    t.is(last.summary.reason, 'stopped')
    // oxlint-disable-next-line no-await-in-loop
    t.is((await loadModel(last.summary.checkpoint!, { device: 'cpu' })).step, last.summary.step)
  }
})

test('a second Ctrl-C quits at once', async (t) => {
  const dir = await folder(t)
  // A step of this takes seconds.
  const large = ['--levels', '1', '--depth', '16', '--hidden', '256', '--device', 'cpu', '--batch-size', '64']
  const args = ['train', '--data', await idxFolder(dir, 256), '--pad', '12', ...large, '--init-images', '8']
  const run = start([...args, '--sample-count', '1', '--out', 'run', '--json'], dir)
  await run.says(/sample-end/)
  run.child.kill('SIGINT')
  await run.says(/again to quit at once/)
  run.child.kill('SIGINT')
  t.is((await run.ended).code, 130)
})

test('a reader that has seen enough ends a command quietly, and a run with its checkpoint', async (t) => {
  const dir = await folder(t)
  const run = start(['train', '--data', await idxFolder(dir, 32), ...small, '--out', 'run', '--json'], dir)
  await once(run.child.stdout, 'data')
  run.child.stdout.destroy()
  const { code, stderr } = await run.ended
  t.is(code, 0)
  t.notRegex(stderr, /EPIPE|Error/)
  t.is((await readdir(join(dir, 'run', 'checkpoints'))).filter((name) => name.startsWith('step-')).length, 1)
})
