/** Directions in latent space, as JSON and in files. */

import * as native from '#native'

import { shapeError } from './error.js'
import { floats } from './images.js'
import { checkOne, type PathLike, show, toPath } from './options.js'
import * as is from './rules.js'
import type { Rule } from './rules.js'
import { engine } from './task.js'

/** A direction in latent space: from the mean latent of images without something to that of images that have it. */
export interface Direction {
  /** `dims` values, in the order of a row of latents. */
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

/** The values of a direction for the engine. */
export function toValues(what: string, direction: Direction): Float32Array {
  checkOne(what, direction?.data, floats)
  const { dims, data } = direction
  if (data.length !== dims) throw shapeError(`${what}.data`, `${dims} values`, `${data.length}`)
  return data
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

/** Directions of the engine by their names. */
export function toDirections(directions: readonly native.NamedDirection[]): Record<string, Direction> {
  return Object.fromEntries(directions.map(({ name, data }) => [name, toDirection(data)]))
}

/**
 * Directions and their names in one safetensors file, which is there whole or not at all.
 *
 * @throws `ERR_GLOW_SHAPE` where directions differ in length or are not finite, `ERR_GLOW_IO` where the system refuses.
 */
export async function saveDirections(file: PathLike, directions: Readonly<Record<string, Direction>>): Promise<void> {
  checkOne('file', file, is.path)
  checkOne('directions', directions, is.object)
  const named = Object.entries(directions).map(([name, direction]) => {
    // UTF-8, and so the file, has no half of a surrogate pair.
    checkOne('directions', name, wellFormed)
    return { name, data: toValues(`directions[${show(name)}]`, direction) }
  })
  await engine(() => native.saveDirections(toPath(file), named))
}
const wellFormed: Rule = {
  expected: 'names of well-formed Unicode',
  accepts: (name) => !/\p{Surrogate}/u.test(name as string),
}

/**
 * Directions that {@link saveDirections} has written, by their names. One of a model whose images are of another size is
 * refused where it is used, by `ERR_GLOW_SHAPE`.
 *
 * @throws `ERR_GLOW_IO` where the system refuses, `ERR_GLOW_FILE` where the file is of another format, truncated or hostile.
 */
export async function loadDirections(file: PathLike): Promise<Record<string, Direction>> {
  checkOne('file', file, is.path)
  return toDirections(await engine(() => native.loadDirections(toPath(file))))
}
