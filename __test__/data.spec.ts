import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'

import test from 'ava'
import { createGlow, customDataset, idxFiles, imagesInMemory } from 'glowflow'

import { folder, slopes, slopesData } from './helpers.js'

/** An IDX file of unsigned bytes. */
function idx(sizes: readonly number[], values: Uint8Array): Buffer {
  const header = Buffer.alloc(4 + 4 * sizes.length)
  header.writeUInt8(8, 2)
  header.writeUInt8(sizes.length, 3)
  sizes.forEach((size, index) => header.writeUInt32BE(size, 4 + 4 * index))
  return Buffer.concat([header, values])
}

test('IDX files are read, plain and gzipped, with labels and padding', async (t) => {
  const dir = await folder(t)
  const values = Uint8Array.from({ length: 3 * 2 * 2 }, (_, index) => 100 + index)
  const [images, labels] = [join(dir, 'images'), join(dir, 'labels')]
  await writeFile(images, gzipSync(idx([3, 2, 2], values)))
  await writeFile(labels, idx([3], Uint8Array.of(2, 0, 1)))
  const data = await idxFiles({ images, labels }, { pad: 1 })
  t.like(data, { length: 3, height: 4, width: 4, channels: 1, classes: ['0', '1', '2'] })
  const batch = await data.batch([1, 0])
  t.like(batch, { count: 2, height: 4, width: 4, channels: 1 })
  t.deepEqual(batch.labels, Uint32Array.of(0, 2))
  t.deepEqual([...batch.data.subarray(0, 16)], [0, 0, 0, 0, 0, 104, 105, 0, 0, 106, 107, 0, 0, 0, 0, 0])

  const color = await idxFiles({ images }, { channels: 3, pad: 1, background: [9, 8, 7] })
  t.is(color.channels, 3)
  t.is(color.classes, undefined)
  t.deepEqual([...(await color.batch([0])).data.subarray(0, 3)], [9, 8, 7])
})

test('images in memory are copied', async (t) => {
  const images = slopes(4)
  const first = images.data.slice(0, 64)
  const data = imagesInMemory(images, [0, 1, 0, 1])
  images.data.fill(0)
  t.deepEqual((await data.batch([0])).data, first)
  t.deepEqual((await data.batch([3, 2])).labels, Uint32Array.of(1, 0))
  t.deepEqual(data.classes, ['0', '1'])
})

test('a split shares no image, loses none and is drawn by seed', async (t) => {
  const images = {
    data: Uint8Array.from({ length: 10 }, (_, index) => index),
    count: 10,
    height: 1,
    width: 1,
    channels: 1,
  }
  const data = imagesInMemory(images)
  const [train, rest] = data.split([0.7, 0.3])
  t.is(train.length, 7)
  t.is(rest.length, 3)
  const all = async (...parts: (typeof data)[]) =>
    (await Promise.all(parts.map(async (part) => [...(await part.batch([...Array(part.length).keys()])).data]))).flat()
  t.deepEqual(
    (await all(train, rest)).toSorted((a, b) => a - b),
    [...images.data],
  )
  t.deepEqual(await all(...data.split([0.7, 0.3])), await all(train, rest))
  t.notDeepEqual(await all(...data.split([0.7, 0.3], { seed: 1 })), await all(train, rest))
  const [half] = slopesData(8).split([0.5])
  t.deepEqual(half.classes, ['0', '1'])
})

test('continuous images are a dataset whose density is learned, in memory and from a program', async (t) => {
  const images = slopes(6)
  const floats = { ...images, data: Float32Array.from(images.data, (value) => value + 0.25) }
  const size = { length: 6, height: images.height, width: images.width, channels: images.channels }
  const part = (indices: readonly number[]) => {
    const dims = images.height * images.width * images.channels
    const rows = indices.flatMap((index) => [...floats.data.subarray(index * dims, (index + 1) * dims)])
    return { ...floats, data: Float32Array.from(rows), count: indices.length }
  }
  const memory = imagesInMemory(floats)
  const custom = customDataset({ id: 'floats', ...size, batch: async (indices) => part(indices) })
  const data: Float32Array = (await memory.batch([5, 0])).data
  t.deepEqual(data, part([5, 0]).data)
  t.deepEqual((await custom.batch([5, 0])).data, data)

  const shape = { imageSize: [size.height, size.width] as const, channels: size.channels }
  await using model = await createGlow({ ...shape, levels: 1, depth: 1, hidden: 8, seed: 1 })
  await model.initialize(memory)
  const density = await model.bitsPerDim(floats)
  const mean = density.reduce((sum, bits) => sum + bits) / density.length
  t.true(Math.abs((await model.evaluate(memory)).bitsPerDim - mean) < 1e-9)
  t.is((await model.evaluate(custom)).bitsPerDim, (await model.evaluate(memory)).bitsPerDim)
  const { loss } = await model.train(memory, { steps: 1, batchSize: 6 }).finished
  t.true(Math.abs(loss - mean) < 1e-5, 'the loss is the density: no noise, no bins')
  const refused = t.throws(() => imagesInMemory({ ...floats, data: floats.data.fill(NaN) }), {
    message: /finite numbers/,
  })
  t.like(refused, { code: 'ERR_GLOW_SHAPE' })
})
