/** What a model's matrix products come to, and what the machine can do of them. */

import { execFileSync } from 'node:child_process'

import type { Spec } from './child.ts'

/** Multiplications of an image of 32x32x3 on its way to latents: coupling nets and 1x1 convolutions. */
export function multiplications({ levels, depth, hidden }: Pick<Spec, 'levels' | 'depth' | 'hidden'>): number {
  let sum = 0
  for (let level = 0; level < levels; level++) {
    const [pixels, channels] = [(16 >> level) ** 2, 12 << level]
    const net = 9 * (channels / 2) * hidden + hidden ** 2 + 9 * hidden * channels
    sum += depth * pixels * (net + channels ** 2)
  }
  return sum
}

/** Floating point operations of a training step for an image: the way there, and twice as much back. */
export const trainingOperations = (spec: Pick<Spec, 'levels' | 'depth' | 'hidden'>): number => 6 * multiplications(spec)

/** Operations a second of all cores, as measured: of f32, and of bf16 where the processor has products of them. */
export interface Peak {
  readonly f32: number
  readonly bf16: number | null
}

export function measurePeak(threads: number): Peak {
  const manifest = new URL('../Cargo.toml', import.meta.url).pathname
  const env = { ...process.env, RAYON_NUM_THREADS: String(threads) }
  const cargo = ['bench', '--quiet', '--manifest-path', manifest, '--workspace', '--bench', 'peak']
  return JSON.parse(execFileSync('cargo', cargo, { env, stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' }))
}
