import test from 'ava'
import { addDirection, type Images, interpolateLatents, type Latents, resample } from 'glowflow'

import { initialized, refuses, slopes } from './helpers.js'

const any = <T>(value: unknown): T => value as T

/** Two scales, as of a model of 4x4x1 images; the values count up. */
const latents = (count: number): Latents => ({
  data: Float32Array.from({ length: 16 * count }, (_, index) => index),
  count,
  dims: 16,
  scales: [
    { offset: 0, shape: [2, 2, 2] },
    { offset: 8, shape: [1, 1, 8] },
  ],
})

const direction = (data: Float32Array) => ({ data, dims: data.length, toJSON: any<never>(null) })

test('a direction is added by its amount, several one after the other', (t) => {
  const start = latents(2)
  const [one, other] = [direction(new Float32Array(16).fill(2)), direction(new Float32Array(16).map((_, at) => at))]
  const moved = addDirection(addDirection(start, one, -0.5), other, 2)
  t.deepEqual(moved, { ...start, data: start.data.map((value, index) => value - 1 + 2 * (index % 16)) })
  t.deepEqual(start, latents(2), 'what came in is as it was')
  t.deepEqual(addDirection(start, one, 0), start)
})

test('the scales asked for are drawn anew, the others keep every bit', (t) => {
  const start = latents(3)
  const fine = resample(start, { scales: [0], seed: 7 })
  const both = resample(start, { scales: [1, 0], seed: 7 })
  for (let row = 0; row < 3; row++) {
    const part = ({ data }: Latents, from: number, to: number) => data.slice(16 * row + from, 16 * row + to)
    t.deepEqual(part(fine, 8, 16), part(start, 8, 16))
    t.deepEqual(part(both, 0, 8), part(fine, 0, 8), 'whatever else is drawn')
    t.true(part(fine, 0, 8).every((value, index) => value !== part(start, 0, 8)[index]))
  }
  t.deepEqual(fine.scales, start.scales)
  t.deepEqual(resample(start, { scales: [0], seed: 7 }), fine)
  t.notDeepEqual(resample(start, { scales: [0], seed: 8 }), fine)
  t.notDeepEqual(resample(start, { scales: [0] }), resample(start, { scales: [0] }), 'a seed is drawn')
  t.deepEqual(resample(start, { scales: [] }), start)
  t.true(resample(start, { scales: [0, 1], temperature: 0 }).data.every((value) => value === 0))
  const doubled = resample(start, { scales: [0, 1], temperature: 2, seed: 3 })
  const single = resample(start, { scales: [0, 1], temperature: 1, seed: 3 })
  t.deepEqual(
    doubled.data,
    single.data.map((value) => 2 * value),
  )
  const usual = resample(start, { scales: [0, 1], seed: 3 })
  t.deepEqual(usual, resample(start, { scales: [0, 1], temperature: 0.7, seed: 3 }), "as sample's")
})

test('rows of latents go from one to the other, straight or around', (t) => {
  const rows = (values: number[]): Latents => ({ ...latents(2), data: Float32Array.from(values), dims: 2, scales: [] })
  const [from, to] = [rows([3, 0, 1, 1]), rows([0, 5, 3, -1])]
  const straight = interpolateLatents(from, to, { frames: 3 })
  t.deepEqual([...straight.data], [3, 0, 1.5, 2.5, 0, 5, 1, 1, 2, 0, 3, -1])
  t.is(straight.count, 6)
  const around = interpolateLatents(from, to, { frames: 3, path: 'spherical' })
  t.deepEqual([...around.data.slice(0, 2), ...around.data.slice(4, 6)], [3, 0, 0, 5])
  t.true(Math.abs(Math.hypot(around.data[2]!, around.data[3]!) - 4) < 1e-6)
  t.is(interpolateLatents(from, to).count, 16)
})

test('edited latents decode to what edited images are', async (t) => {
  const model = await initialized()
  const images = slopes(4)
  const half = (start: number): Images => ({
    ...images,
    count: 2,
    data: images.data.slice(start * 64, (start + 2) * 64),
  })
  const [from, to] = [half(0), half(2)]
  const [a, b] = await Promise.all([model.encode(from), model.encode(to)])
  for (const path of ['linear', 'spherical'] as const) {
    const options = { frames: 5, path }
    // oxlint-disable-next-line no-await-in-loop
    t.deepEqual(await model.decode(interpolateLatents(a, b, options)), await model.interpolate(from, to, options))
  }
  const some = await model.direction(to, from)
  t.deepEqual(await model.decode(addDirection(a, some, 0.5)), await model.shift(from, some, { amounts: [0.5] }))
  const varied = await model.decode(resample(a, { scales: [0], seed: 1 }))
  t.is(varied.count, 2)
  t.notDeepEqual(varied, from)
})

test('latents, directions and options that cannot be used', async (t) => {
  const start = latents(2)
  const some = direction(new Float32Array(16))
  const bad = (words: RegExp, call: () => unknown) => refuses(t, 'ERR_GLOW_OPTION', words, call)
  const shape = (words: RegExp, call: () => unknown) => refuses(t, 'ERR_GLOW_SHAPE', words, call)
  await bad(/an object for latents/, () => addDirection(any(null), some, 1))
  await bad(/latents.data/, () => addDirection(any({ ...start, data: [1, 2] }), some, 1))
  await shape(/latents.data of 3 x 16 = 48 values but received 32/, () => addDirection({ ...start, count: 3 }, some, 1))
  await bad(/direction/, () => addDirection(start, any(null), 1))
  await bad(/a finite number for amount but received NaN/, () => addDirection(start, some, Number.NaN))
  await bad(/a finite number for amount but received '1'/, () => addDirection(start, some, any('1')))
  await bad(/finite numbers for amounts but received inf/, () => addDirection(start, some, 1e300))
  await shape(/direction of 16 but received 8/, () => addDirection(start, direction(new Float32Array(8)), 1))
  await shape(/direction.data of 8 values/, () => addDirection(start, { ...some, dims: 8 }, 1))
  const infinite = direction(new Float32Array(16).fill(Infinity))
  await shape(/direction of finite numbers but received inf at 0/, () => addDirection(start, infinite, 1))

  await bad(/options/, () => resample(start, any(undefined)))
  await bad(/scales but received undefined/, () => resample(start, any({})))
  await bad(/scales/, () => resample(start, { scales: [-1] }))
  await bad(/indices from 0 to 1 for scales but received 2/, () => resample(start, { scales: [0, 2] }))
  await bad(/each index once for scales but received 1 twice/, () => resample(start, { scales: [1, 1] }))
  await bad(/temperature/, () => resample(start, { scales: [0], temperature: -1 }))
  await bad(/temperature/, () => resample(start, { scales: [0], temperature: 1e39 }))
  await bad(/seed/, () => resample(start, { scales: [0], seed: 0.5 }))
  await bad(/Unknown option scale, the closest known one is scales/, () =>
    resample(start, any({ scales: [0], scale: 1 })),
  )
  for (const scales of [undefined, 3, [null], [{ offset: 0 }], [{ offset: 0, shape: [4, 4] }]])
    await bad(/latents.scales/, () => resample(any({ ...start, scales }), { scales: [0] }))
  const gap = [start.scales[0]!, { offset: 9, shape: [1, 1, 7] as const }]
  await shape(
    /latents.scales of parts that follow on one another and fill a row of 16 but received 2x2x2 at 0, 1x1x7/,
    () => resample({ ...start, scales: gap }, { scales: [0] }),
  )

  await bad(/frames/, () => interpolateLatents(start, start, { frames: 1 }))
  await bad(/path/, () => interpolateLatents(start, start, any({ path: 'scenic' })))
  await bad(/an object for to/, () => interpolateLatents(start, any(undefined)))
  await shape(/2 x 16 but received 1 x 16/, () => interpolateLatents(start, latents(1)))

  const shared = new Float32Array(new SharedArrayBuffer(128))
  await bad(/not shared for latents.data/, () => addDirection({ ...start, data: shared }, some, 1))
  await bad(/not shared/, () => resample({ ...start, data: shared }, { scales: [0] }))
  await bad(/not shared for to.data/, () => interpolateLatents(start, { ...start, data: shared }))
  await bad(/not shared for direction/, () => addDirection(start, direction(shared.subarray(0, 16)), 1))
  const gone = latents(1)
  structuredClone(gone.data, { transfer: [gone.data.buffer as ArrayBuffer] })
  await shape(/received 0/, () => resample(gone, { scales: [0] }))
})
