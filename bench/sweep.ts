/** What glowflow's steps and calls cost, as its sizes grow: a plot and lines of JSON for each. */

import { join } from 'node:path'

import { type Plot, type Precision, writePlot } from 'glowflow'

import { Child, type Spec } from './child.ts'
import { median, timesFor } from './pairs.ts'

type Sized = Pick<Spec, 'levels' | 'depth' | 'hidden' | 'batch' | 'threads' | 'size'>

interface Sweep {
  readonly name: string
  readonly label: string
  readonly values: readonly number[]
  readonly at: (value: number) => Partial<Sized>
}

/** Each sweep changes one of these. */
const common = { levels: 3, depth: 8, hidden: 128, batch: 16, size: 32 } as const

const sweeps = (threads: number): readonly Sweep[] => [
  { name: 'depth', label: 'K', values: [1, 2, 4, 8, 16, 32], at: (depth) => ({ depth }) },
  { name: 'width', label: 'width of the nets', values: [32, 64, 128, 256, 512], at: (hidden) => ({ hidden }) },
  { name: 'size', label: 'height and width', values: [8, 16, 32, 64, 128], at: (size) => ({ size }) },
  { name: 'batch', label: 'images of a batch', values: [1, 2, 4, 8, 16, 32, 64], at: (batch) => ({ batch }) },
  {
    name: 'threads',
    label: 'threads',
    values: Array.from({ length: threads }, (_, index) => index + 1),
    at: (count) => ({ threads: count }),
  },
]

const tasks = { train: 'a step of training', encode: 'encode', decode: 'decode' } as const

/** One point of a plot. */
export interface Cost extends Sized {
  readonly sweep: string
  readonly task: Spec['task']
  readonly precision: Precision
  /** Milliseconds an image, the median of some turns. */
  readonly milliseconds: number
}

/** Measures every sweep whose name matches and writes its plot to `folder`; `tell` takes each point as it is found. */
export async function sweep(
  folder: string,
  given: Pick<Spec, 'threads' | 'images' | 'device'> & { readonly precisions: readonly Precision[] },
  options: { readonly only: RegExp; readonly turns: number; readonly seconds: number },
  tell: (cost: Cost) => void,
): Promise<void> {
  const { precisions, ...placed } = given
  for (const { name, label, values, at } of sweeps(given.threads).filter((one) => options.only.test(one.name))) {
    const series: Plot['series'][number][] = []
    for (const precision of precisions)
      for (const task of ['train', 'encode', 'decode'] as const) {
        const points: [number, number][] = []
        for (const value of values) {
          const spec: Spec = { peer: 'glowflow', task, precision, ...common, ...placed, ...at(value) }
          const milliseconds = await cost(spec, options.turns, options.seconds)
          const { levels, depth, hidden, batch, threads, size } = spec
          tell({ sweep: name, task, precision, levels, depth, hidden, batch, threads, size, milliseconds })
          points.push([value, milliseconds])
        }
        series.push({ name: `${tasks[task]}, ${precision}`, points })
      }
    const title = `K=${common.depth}, L=${common.levels}, width ${common.hidden}, ${common.size}x${common.size}x3, batch ${common.batch}, but for the ${name}`
    await writePlot(join(folder, `cost-${name}.png`), { title, xLabel: label, yLabel: 'ms an image', series })
  }
}

async function cost(spec: Spec, turns: number, seconds: number): Promise<number> {
  const child = await Child.start(spec)
  try {
    const times = await timesFor(child, seconds)
    const found: number[] = []
    for (let turn = 0; turn < turns; turn++) found.push((await child.work(times)) / times)
    return (1000 * median(found)) / spec.batch
  } finally {
    child.stop()
  }
}
