import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'
import { pngGrid, writePlot, writePngGrid } from 'glowflow'

import { folder, slopes } from './helpers.js'

const signature = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]

/** Width and height of a PNG file. */
function size(png: Uint8Array): number[] {
  const view = Buffer.from(png)
  return [view.readUInt32BE(16), view.readUInt32BE(20)]
}

test('a grid is a PNG of all images', async (t) => {
  const png = await pngGrid(slopes(6), { columns: 3, gap: 1, background: [255, 0, 0] })
  t.deepEqual([...png.subarray(0, 8)], signature)
  t.deepEqual(size(png), [3 * 8 + 2, 2 * 8 + 1])
  t.deepEqual(size(await pngGrid(slopes(4, { channels: 3 }))), [18, 18])
})

test('a grid and a plot are written whole', async (t) => {
  const dir = await folder(t)
  await writePngGrid(join(dir, 'grid.png'), slopes(4))
  t.deepEqual(new Uint8Array(await readFile(join(dir, 'grid.png'))), await pngGrid(slopes(4)))
  const points = Array.from({ length: 50 }, (_, step) => [step, 8 * 0.9 ** step] as const)
  await writePlot(join(dir, 'loss.svg'), {
    title: 'Loss',
    xLabel: 'step',
    yLabel: 'bits/dim',
    series: [
      { points, faint: true },
      { name: 'training', points },
    ],
  })
  const svg = await readFile(join(dir, 'loss.svg'), 'utf8')
  t.regex(svg, /^<svg[^]*bits\/dim[^]*<\/svg>\s*$/)
  t.deepEqual((await readdir(dir)).toSorted(), ['grid.png', 'loss.svg'])
})

test('a plot is a PNG where its name says so', async (t) => {
  const dir = await folder(t)
  const points = [
    [0, 4],
    [1, 3],
  ] as const
  const blank = join(dir, 'blank.png')
  await writePlot(blank, { series: [] })
  const texts = { title: 'Verlust 損失 🙂', xLabel: 'step\u0000', yLabel: 'bits/dim' }
  await writePlot(join(dir, 'loss.PNG'), { ...texts, series: [{ name: 'é\u0301\u202e', points }] })
  const png = await readFile(join(dir, 'loss.PNG'))
  t.deepEqual([...png.subarray(0, 8)], signature)
  t.deepEqual(size(png), [1600, 900])
  t.notDeepEqual(png, await readFile(blank))
})

test('a plot of another kind is an error, and no file', async (t) => {
  const dir = await folder(t)
  const file = join(dir, 'loss.pdf')
  await t.throwsAsync(writePlot(file, { series: [] }), {
    code: 'ERR_GLOW_OPTION',
    message: `Expected a name that ends in .svg or .png for file but received ${file}`,
  })
  t.deepEqual(await readdir(dir), [])
})
