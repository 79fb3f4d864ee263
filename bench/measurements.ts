/** What is measured against whom, and what has to come out. */

import type { Precision } from 'glowflow'

import type { Spec } from './child.ts'

/** Floor and goal, of a speed at least, of a time or of memory at most. */
export type Bounds = readonly [floor: number, goal: number]

/** Processors whose matrix products differ: the same kernels are not the best on both. */
export type ProcessorClass = 'amx' | 'other'

export interface Measurement {
  readonly name: string
  readonly ours: Omit<Spec, 'threads' | 'images'>
  readonly peer: Omit<Spec, 'threads' | 'images'>
  /** `'speed'`: times as fast as the peer. `'time'` and `'memory'`: part of the peer's. */
  readonly of: 'speed' | 'time' | 'memory'
  readonly bounds: Readonly<Partial<Record<ProcessorClass, Bounds>>>
  /** Where our speed is also told as a part of the machine's peak: its bounds. */
  readonly ofPeak?: Readonly<Partial<Record<ProcessorClass, Bounds>>>
}

type Size = Pick<Spec, 'levels' | 'depth' | 'hidden'>
const large: Size = { levels: 3, depth: 32, hidden: 512 }
const medium: Size = { levels: 3, depth: 8, hidden: 128 }
const small: Size = { levels: 3, depth: 4, hidden: 64 }
const sizeName = ({ depth, hidden }: Size): string => `K=${depth} width ${hidden}`

function training(
  size: Size,
  batch: number,
  precision: Precision,
  peer: Spec['peer'],
  bounds: Measurement['bounds'],
): Measurement {
  const peerPrecision = peer === 'dressed' && precision === 'bf16' ? 'bf16' : 'f32'
  return {
    name: `train ${sizeName(size)} batch ${batch} ${precision} against ${peer} ${peerPrecision}`,
    ours: { peer: 'glowflow', task: 'train', ...size, batch, precision, activations: 'stored' },
    peer: { peer, task: 'train', ...size, batch, precision: peerPrecision },
    of: 'speed',
    bounds,
  }
}

function inference(
  task: 'encode' | 'decode',
  size: Size,
  batch: number,
  precision: Precision,
  peer: Spec['peer'],
  bounds: Measurement['bounds'],
): Measurement {
  const model = `K${size.depth}-${size.hidden}`
  return {
    name: `${task} ${sizeName(size)} batch ${batch} ${precision} against ${peer} f32`,
    ours: { peer: 'glowflow', task, ...size, batch, precision, model },
    peer: { peer, task, ...size, batch, precision: 'f32', model },
    of: 'time',
    bounds,
  }
}

const againstNormflows: Record<Precision, Measurement['bounds']> = {
  f32: { amx: [1.2, 1.5], other: [1.5, 1.8] },
  bf16x3: { amx: [2.5, 4] },
  bf16: { amx: [4.5, 8], other: [2.2, 3] },
}
const againstDressed: Record<Precision, Measurement['bounds']> = {
  f32: { amx: [1.1, 1.3], other: [1.1, 1.3] },
  bf16x3: { amx: [2.2, 3.5] },
  bf16: { amx: [2, 3.2], other: [1.15, 1.3] },
}
const one: Record<Precision, readonly [medium: Measurement['bounds'], large: Measurement['bounds']]> = {
  f32: [
    { amx: [0.8, 0.5], other: [0.8, 0.5] },
    { amx: [0.9, 0.7], other: [0.9, 0.7] },
  ],
  bf16x3: [{ amx: [0.5, 0.3] }, { amx: [0.4, 0.25] }],
  bf16: [{ other: [1, 0.35] }, { other: [1, 0.45] }],
}
const many: Record<Precision, Measurement['bounds']> = {
  f32: { amx: [0.9, 0.7], other: [0.9, 0.7] },
  bf16x3: { amx: [0.4, 0.25] },
  bf16: {},
}

const precisions: readonly Precision[] = ['f32', 'bf16x3', 'bf16']
const peakOf: Record<Precision, Pick<Measurement, 'ofPeak'>> = {
  f32: { ofPeak: { amx: [0.55, 0.7], other: [0.6, 0.75] } },
  bf16x3: {},
  bf16: { ofPeak: { amx: [0.2, 0.35], other: [0.45, 0.6] } },
}
/** Of the best precision, whichever that is. */
const smallBounds = { amx: [2, 3], other: [1.6, 2.2] } as const
const constantMemory = training(large, 16, 'f32', 'normflows', { amx: [0.45, 0.35], other: [0.45, 0.35] })

export const measurements: readonly Measurement[] = [
  ...precisions.flatMap((precision) => [
    training(small, 32, precision, 'normflows', smallBounds),
    training(medium, 16, precision, 'normflows', smallBounds),
  ]),
  ...precisions.flatMap((precision) => [
    { ...training(large, 16, precision, 'normflows', againstNormflows[precision]), ...peakOf[precision] },
    training(large, 16, precision, 'plain', {}),
    training(large, 16, precision, 'dressed', againstDressed[precision]),
  ]),
  {
    ...constantMemory,
    name: 'memory K=32 width 512 batch 16, rebuilt activations, against normflows',
    ours: { ...constantMemory.ours, activations: 'constant' },
    of: 'memory',
  },
  ...[medium, large].flatMap((size, index) =>
    (['encode', 'decode'] as const).flatMap((task) =>
      precisions.flatMap((precision) => [
        inference(task, size, 1, precision, 'onnxruntime', one[precision][index]!),
        inference(task, size, 16, precision, 'onnxruntime', many[precision]),
        inference(task, size, 16, precision, 'dressed', {}),
      ]),
    ),
  ),
]

/** Whether a figure is as good as its bound asks. */
export const isWithin = (of: Measurement['of'], figure: number, bound: number): boolean =>
  of === 'speed' ? figure >= bound : figure <= bound

/** `'goal'`, `'floor'` where it is between the two, `'below'`; nothing where nothing is asked for. */
export function verdict(of: Measurement['of'], figure: number, bounds: Bounds | undefined): string {
  if (!bounds) return ''
  const [floor, goal] = bounds
  if (isWithin(of, figure, goal)) return 'goal'
  return isWithin(of, figure, floor) ? 'floor' : 'below'
}
