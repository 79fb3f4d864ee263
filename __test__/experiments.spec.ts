import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { order, tableRows } from '../dist/cli/figure3.js'
import { deviation, mean, median, spread } from '../dist/cli/statistics.js'
import { Recorder } from '../dist/cli/trial.js'
import { glowflow, idxFolder, start } from './cli-helpers.js'
import { folder } from './helpers.js'

const tiny = ['--levels', '1', '--depth', '1', '--hidden', '4', '--batch-size', '4', '--device', 'cpu']
const permutations = ['reverse', 'shuffle', 'conv1x1'] as const

test('means, deviations and medians', (t) => {
  t.is(mean([1, 2, 6]), 3)
  t.is(deviation([1, 2, 6]), Math.sqrt(7))
  t.true(Number.isNaN(deviation([1])))
  t.deepEqual([median([5, 1, 3]), median([4, 1, 3, 2]), median([7])], [3, 2.5, 7])
  t.deepEqual([spread([1, 2, 6], 2), spread([1.25], 1)], ['3.00 ± 2.65', '1.3'])
})

test('each permutation has each place in turn, next to those that it is compared with', (t) => {
  const places = order(permutations, 3)
  t.is(new Set(places.map((place) => JSON.stringify(place))).size, 18)
  for (let at = 0; at < 18; at += 3) {
    const three = places.slice(at, at + 3)
    t.is(new Set(three.map(({ coupling, seed }) => `${coupling} ${seed}`)).size, 1)
  }
  for (const coupling of ['additive', 'affine'])
    for (const place of [0, 1, 2]) {
      const there = places.filter((one, at) => one.coupling === coupling && at % 3 === place)
      t.deepEqual(there.map(({ permutation }) => permutation).toSorted(), permutations.toSorted())
    }
})

test('times are medians after the first 50 steps, whatever was merged', (t) => {
  const record = new Recorder(10)
  const step = (at: number, seconds: number, merged = 1) =>
    record.tell({
      type: 'step-end',
      step: at,
      epoch: 0,
      loss: 1,
      gradientNorm: 1,
      learningRate: 1,
      imagesPerSecond: 10 / seconds,
      merged,
    })
  step(50, 2, 50)
  step(51, 0.5)
  record.tell({ type: 'evaluation-end', step: 51, bitsPerDim: 4, standardError: 0, images: 1 })
  step(150, 0.25, 99)
  step(151, 30)
  const { steps, seconds, secondsPerStep, imagesPerSecond, curve } = record.result()
  t.deepEqual([steps, seconds, secondsPerStep, imagesPerSecond], [151, 155.25, 0.25, 40])
  t.deepEqual(curve, [{ step: 51, seconds: 100.5, bitsPerDim: 4 }])
})

test('ratios of times are taken seed by seed', (t) => {
  const result = { parameters: 1, device: '', steps: 1, seconds: 1, imagesPerSecond: 1, curve: [] }
  const runs = order(permutations, 2).map((place) => ({
    ...result,
    ...place,
    bitsPerDim: place.seed + (place.permutation === 'reverse' ? 4 : 3),
    standardError: 0,
    images: 1,
    // The second seed meets a machine that is half as fast.
    secondsPerStep: (place.seed + 1) * (place.permutation === 'conv1x1' ? 1.5 : 1),
  }))
  const rows = tableRows(runs, permutations)
  t.is(rows.length, 6)
  t.like(rows[2], { coupling: 'additive', permutation: 'conv1x1', bitsPerDim: [3, 4], timeToReverse: [1.5, 1.5] })
  t.like(rows[3], { coupling: 'affine', permutation: 'reverse', bitsPerDim: [4, 5], timeToReverse: [1, 1] })
})

test('figure3 makes table and plots, and keeps what is done through a kill', async (t) => {
  const dir = await folder(t)
  const data = await idxFolder(dir, 48)
  const shape = '--eval-fraction 0.25 --seeds 2 --steps 12 --warmup 2 --eval-every 4 --out figure'.split(' ')
  const line = (...more: string[]) => ['figure3', '--data', data, ...tiny, ...shape, ...more]
  const killed = start(line(), dir)
  await killed.says(/3\/12 .*ms\/step/)
  killed.child.kill('SIGKILL')
  await killed.ended
  const runs = join(dir, 'figure', 'runs')
  const kept = (await readdir(runs)).filter((name) => name.endsWith('.json'))
  t.true(kept.length >= 3 && kept.length < 12, `${kept.length}`)
  const before = await Promise.all(kept.map((name) => stat(join(runs, name))))

  const { code, stdout, stderr } = await glowflow(line('--json'), dir)
  t.is(code, 0, stderr)
  const after = await Promise.all(kept.map((name) => stat(join(runs, name))))
  t.deepEqual(
    after.map(({ mtimeMs, ino }) => [mtimeMs, ino]),
    before.map(({ mtimeMs, ino }) => [mtimeMs, ino]),
  )
  t.is(stderr.match(/kept from before/g)?.length, kept.length)
  const { rows } = JSON.parse(stdout)
  t.is(rows.length, 6)
  const table = JSON.parse(await readFile(join(dir, 'figure', 'table.json'), 'utf8'))
  t.deepEqual(table.rows, rows)
  t.is(table.runs.length, 12)
  t.deepEqual(
    table.runs[0].curve.map(({ step }: { step: number }) => step),
    [4, 8, 12],
  )
  // Each model of its own, and the last score is the curve's end: the same images with the same noise.
  t.is(new Set(table.runs.map(({ bitsPerDim }: { bitsPerDim: number }) => bitsPerDim)).size, 12)
  const first = table.runs.find(({ seed }: { seed: number }) => seed === 0)
  t.is(first.curve.at(-1).bitsPerDim, first.bitsPerDim)
  // Times are those of a busy machine: how large they are says nothing.
  t.regex(
    await readFile(join(dir, 'figure', 'table.md'), 'utf8'),
    /^\| affine \| 1x1 conv \| [\d,]+ \| \d\.\d{4} ± \d\.\d{4} \| [\d.]+ \| \d+\.\d{3} ± \d+\.\d{3} \|$/m,
  )
  for (const coupling of ['additive', 'affine']) {
    // oxlint-disable-next-line no-await-in-loop
    const svg = await readFile(join(dir, 'figure', `${coupling}.svg`), 'utf8')
    for (const words of ['reverse', 'shuffle', '1x1 conv', 'step', `${coupling.slice(1)} coupling`])
      t.true(svg.includes(words), words)
    // oxlint-disable-next-line no-await-in-loop
    const png = await readFile(join(dir, 'figure', `${coupling}.png`))
    t.is(png.subarray(1, 4).toString(), 'PNG')
  }

  const other = await glowflow(line('--steps', '8'), dir)
  t.is(other.code, 2)
  t.regex(other.stderr, /is of a run with other settings or data: name another folder with --out/)
})

test('compare scores kinds, presets and files of options on the same data', async (t) => {
  const dir = await folder(t)
  const data = await idxFolder(dir, 48)
  await writeFile(join(dir, 'narrow.json'), JSON.stringify({ kind: 'glow', levels: 1, depth: 1, hidden: 4 }))
  await writeFile(join(dir, 'wide.json'), JSON.stringify({ levels: 2, depth: 2, hidden: 16, coupling: 'additive' }))
  const how = '--batch-size 8 --warmup 2 --eval-every 5 --steps 10 --device cpu --out two --json'.split(' ')
  const line = (...models: string[]) => [
    'compare',
    '--data',
    data,
    '--eval-fraction',
    '0.25',
    '--models',
    ...models,
    ...how,
  ]
  const { code, stdout, stderr } = await glowflow(line('narrow.json', 'wide.json'), dir)
  t.is(code, 0, stderr)
  const { rows } = JSON.parse(stdout)
  const [narrow, wide] = rows
  t.deepEqual([narrow.name, wide.name], ['narrow', 'wide'])
  t.true(wide.parameters > 5 * narrow.parameters)
  for (const { steps, images, standardError, curve } of rows) {
    t.deepEqual([steps, images, curve.length], [10, 12, 2])
    t.true(standardError > 0)
  }
  t.deepEqual(JSON.parse(await readFile(join(dir, 'two', 'table.json'), 'utf8')).rows, rows)
  t.regex(await readFile(join(dir, 'two', 'table.md'), 'utf8'), /^\| wide \| \d\.\d{4} ± \d\.\d{4} \| [\d,]+ \| 10 \|/m)
  t.regex(await readFile(join(dir, 'two', 'curves.svg'), 'utf8'), /narrow/)
  t.regex((await glowflow(line('narrow.json', 'wide.json'), dir)).stderr, /kept from before[^]*kept from before/)

  const bad = async (words: RegExp, ...models: string[]) => {
    const failed = await glowflow(line(...models), dir)
    t.is(failed.code, 2)
    t.regex(failed.stderr, words)
  }
  await bad(/Unknown model cifar10-smal, the closest known one is cifar10-small/, 'cifar10-smal')
  await bad(/names but received narrow twice/, 'narrow.json', 'narrow.json')
  await writeFile(join(dir, 'odd.json'), JSON.stringify({ kind: 'glwo', dept: 1 }))
  await bad(/Unknown option dept, the closest known one is depth/, 'odd.json')
  const endless = await glowflow(['compare', '--data', data], dir)
  t.regex(endless.stderr, /Expected --seconds or --steps/)
})
