/** Directions in latent space, and their way into files. */

import { checkOne } from './options.js'
import * as is from './rules.js'
import type { Rule } from './rules.js'

/** A direction in latent space: from the mean latent of images without something to that of images that have it. */
export interface Direction {
  /** `dims` values, in the order of a row of {@link Latents}. */
  readonly data: Float32Array
  readonly dims: number
  toJSON(): DirectionJson
}
export interface DirectionJson {
  readonly format: 'glowflow-direction'
  readonly version: number
  readonly dims: number
  /** Little-endian f32, base64. */
  readonly data: string
}

const format = 'glowflow-direction'
const version = 1

export function toDirection(data: Float32Array): Direction {
  const toJSON = (): DirectionJson => {
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength)
    return { format, version, dims: data.length, data: bytes.toString('base64') }
  }
  return { data, dims: data.length, toJSON }
}

const directionJson: Rule = {
  expected: `the JSON of a direction, version ${version}`,
  accepts: (value) => {
    const { format: kind, version: number, dims, data } = (value ?? {}) as Partial<DirectionJson>
    return (
      kind === format &&
      number === version &&
      is.integer(1).accepts(dims) &&
      typeof data === 'string' &&
      Buffer.from(data, 'base64').length === 4 * (dims as number)
    )
  },
}

/**
 * A direction from what its `toJSON` gave.
 *
 * @throws `ERR_GLOW_OPTION` for anything else.
 */
export function directionFromJSON(json: DirectionJson): Direction {
  checkOne('json', json, directionJson)
  const bytes = Buffer.from(json.data, 'base64')
  const data = new Float32Array(json.dims)
  new Uint8Array(data.buffer).set(bytes)
  return toDirection(data)
}
