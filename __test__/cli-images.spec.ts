import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'
import { type Images, loadDirections, loadModel, readImages, writePngGrid } from 'glowflow'

import { glowflow } from './cli-helpers.js'
import { folder, initialized, slopes } from './helpers.js'

const image = ({ data, ...rest }: Images, index: number): Images => {
  const dims = rest.height * rest.width * rest.channels
  return { ...rest, count: 1, data: data.slice(index * dims, (index + 1) * dims) }
}

/** A model, and eight pictures of two classes: `pictures/<class>/<index>.png`. */
async function prepared(dir: string): Promise<Images> {
  const model = await initialized()
  await model.save(join(dir, 'model'))
  const images = slopes(8)
  for (const name of ['wide', 'high']) await mkdir(join(dir, 'pictures', name), { recursive: true })
  await Promise.all(
    [...Array(8).keys()].map((index) =>
      writePngGrid(join(dir, 'pictures', index % 2 ? 'high' : 'wide', `${index}.png`), image(images, index), {
        gap: 0,
      }),
    ),
  )
  return images
}

test('pictures are encoded, and what is decoded are the same pixels', async (t) => {
  const dir = await folder(t)
  const images = await prepared(dir)
  const of = ['--model', 'model', '--device', 'cpu', '--json']
  const run = async (args: string[]) => {
    const { code, stdout, stderr } = await glowflow(args, dir)
    t.is(code, 0, stderr)
    return JSON.parse(stdout)
  }
  const files = ['pictures/wide/0.png', 'pictures/high/1.png']
  t.like(await run(['encode', ...of, '--images', ...files, 'pictures/wide']), { count: 6, dims: 64 })
  const decoded = await run(['decode', ...of, '--latents', 'latents.npy'])
  const back = await readImages(
    decoded.files.map((file: string) => join(dir, file)),
    { channels: 1 },
  )
  for (const [row, index] of [0, 1, 0, 2, 4, 6].entries()) t.deepEqual(image(back, row), image(images, index))

  await run(['interpolate', ...of, '--from', files[0]!, '--to', files[1]!, '--frames', '3', '--out', 'frames'])
  const frames = await readImages(
    ['0', '1', '2'].map((name) => join(dir, 'frames', `${name}.png`)),
    { channels: 1 },
  )
  t.deepEqual(image(frames, 0), image(images, 0))
  t.deepEqual(image(frames, 2), image(images, 1))

  t.like(await run(['verify', ...of, '--images', 'pictures/wide', 'pictures/high']), { images: 8, pixelMismatches: 0 })
  const two = ['--having', 'pictures/wide', '--without', 'pictures/high', '--name', 'wide']
  t.deepEqual(await run(['direction', ...of, ...two]), { file: 'direction.safetensors', directions: ['wide'] })
  t.deepEqual(await run(['direction', ...of, '--data', 'pictures', '--attributes', '--out', 'classes.safetensors']), {
    file: 'classes.safetensors',
    directions: ['high', 'wide'],
  })
  const directions = await loadDirections(join(dir, 'classes.safetensors'))
  t.deepEqual((await loadDirections(join(dir, 'direction.safetensors')))['wide']!.data, directions['wide']!.data)
  const shift = ['--images', files[1]!, '--direction', 'classes.safetensors', '--name', 'wide', '--amounts', '0,0.5']
  await run(['shift', ...of, ...shift, '--out', 'shifted'])
  const shifted = await readImages(
    ['0', '1'].map((name) => join(dir, 'shifted', `${name}.png`)),
    { channels: 1 },
  )
  await using model = await loadModel(join(dir, 'model'), { device: 'cpu' })
  t.deepEqual(shifted, await model.shift(image(images, 1), directions['wide']!, { amounts: [0, 0.5] }))
})

test('pictures that do not fit, and choices that are not clear, are refused', async (t) => {
  const dir = await folder(t)
  await prepared(dir)
  await writeFile(join(dir, 'letter.png'), 'This is a letter.')
  await mkdir(join(dir, 'empty'))
  const of = ['--model', 'model', '--device', 'cpu']
  const refused: [args: string[], code: number, sentence: RegExp][] = [
    [['encode', ...of], 2, /Expected --images <file or folder> or --data <path>/],
    [['encode', ...of, '--images', 'empty', '--data', 'pictures'], 2, /Expected --images or --data but received both/],
    [
      ['encode', ...of, '--images', 'empty'],
      1,
      /empty cannot be used: there are no .png, .jpg, .jpeg, .webp files in it/,
    ],
    [['encode', ...of, '--images', 'letter.png'], 1, /letter.png .*\(ERR_GLOW_DATA\)/],
    [
      ['encode', ...of, '--images', 'pictures/wide/0.png', '--size', '16'],
      1,
      /8x8x1 but received 16x16x1 \(ERR_GLOW_SHAPE\)/,
    ],
    [['direction', ...of, '--having', 'pictures'], 2, /Expected --having and --without, or --data and --attributes/],
    [
      ['direction', ...of, '--data', 'pictures', '--attributes', '--out', 'x.json'],
      2,
      /--out that ends in .safetensors/,
    ],
    [['direction', ...of, '--data', 'pictures', '--attributes', 'wid'], 2, /wid/],
    [['shift', ...of, '--images', 'pictures/wide', '--direction', 'model'], 1, /ERR_GLOW_FILE/],
    [['shift', ...of, '--images', 'pictures/wide', '--direction', 'settings.json'], 1, /ENOENT/],
  ]
  const ends = await Promise.all(refused.map(([args]) => glowflow(args, dir)))
  for (const [index, { code, stderr }] of ends.entries()) {
    const [, expected, sentence] = refused[index]!
    t.regex(stderr, sentence)
    t.is(code, expected, stderr)
  }
})

test('a folder of pictures and a folder with a list of attributes are known for what they are', async (t) => {
  const dir = await folder(t)
  await prepared(dir)
  const small = [
    '--levels',
    '1',
    '--depth',
    '1',
    '--hidden',
    '4',
    '--device',
    'cpu',
    '--batch-size',
    '4',
    '--steps',
    '2',
  ]
  const pictures = await glowflow(['train', '--data', 'pictures', '--size', '4', ...small, '--out', 'a'], dir)
  t.regex(pictures.stderr, /^Image files in .*pictures: 8 images of 4x4x3 of 2 classes\n/)
  t.is(pictures.code, 0)
  await writeFile(join(dir, 'pictures', 'list_attr_celeba.txt'), '2\nSmiling Male\n0.png 1 -1\n2.png -1 1\n')
  const celeba = await glowflow(['train', '--data', 'pictures/wide', ...small, '--out', 'b'], dir)
  t.regex(celeba.stderr, /^CelebA images in .*wide with .*list_attr_celeba.txt: 2 images of 8x8x3/)
  t.is(celeba.code, 0)
  t.like(JSON.parse(await readFile(join(dir, 'a', 'settings.json'), 'utf8')), {
    data: { path: join(dir, 'pictures'), size: 4 },
    model: { imageSize: 4, channels: 3 },
  })
})
