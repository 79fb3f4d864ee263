/** Small data and small models for the tests. */

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import type { ExecutionContext } from 'ava'
import {
  createGlow,
  type Dataset,
  type FlowModel,
  GlowError,
  type GlowErrorCode,
  type GlowOptions,
  type Images,
  imagesInMemory,
} from 'glowflow'

import { random } from '../examples/random.ts'

export { random }

/** A file of another project's model, from the engine's tests. */
export const peerFile = (path: string): string =>
  fileURLToPath(new URL(`../crates/glowflow/tests/fixtures/peers/${path}`, import.meta.url))

/** Images with noise over a slope whose direction tells the two classes apart. */
export function slopes(count: number, { height = 8, width = 8, channels = 1 } = {}, seed = 1): Images {
  const draw = random(seed)
  const data = new Uint8Array(count * height * width * channels)
  let at = 0
  for (let image = 0; image < count; image++)
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++)
        for (let channel = 0; channel < channels; channel++) {
          const slope = image % 2 === 0 ? x / width : y / height
          data[at++] = Math.floor(40 + 150 * slope + 60 * draw())
        }
  return { data, count, height, width, channels }
}

export function slopesData(count: number): Dataset {
  return imagesInMemory(
    slopes(count),
    Uint32Array.from({ length: count }, (_, image) => image % 2),
  )
}

/** A model of a few thousand weights on the CPU. */
export function tiny(options: Partial<GlowOptions> = {}): Promise<FlowModel> {
  return createGlow({ imageSize: 8, channels: 1, levels: 2, depth: 2, hidden: 8, device: 'cpu', seed: 1, ...options })
}

export async function initialized(options: Partial<GlowOptions> = {}): Promise<FlowModel> {
  const model = await tiny(options)
  const channels = options.channels ?? 1
  await model.initialize(slopes(32, { channels }))
  return model
}

/** A folder that is gone after the test. */
export async function folder(t: ExecutionContext<unknown>): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'glowflow-'))
  t.teardown(() => rm(path, { recursive: true, force: true }))
  return path
}

/** Expects a GlowError of this code whose sentence has these words. */
export async function refuses(
  t: ExecutionContext<unknown>,
  code: GlowErrorCode,
  words: RegExp,
  call: () => unknown,
): Promise<GlowError> {
  let caught: unknown
  try {
    await call()
  } catch (error) {
    caught = error
  }
  if (!GlowError.isInstance(caught)) {
    t.fail(`Expected a GlowError but received ${caught}`)
    throw caught
  }
  t.is(caught.code, code)
  t.regex(caught.message, words)
  return caught
}
