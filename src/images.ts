/** Pixels and latents as plain data, and their checks. The binding copies them before a call returns. */

import { types } from 'node:util'

import type * as native from '#native'

import { shapeError } from './error.js'
import { checkOne } from './options.js'
import * as is from './rules.js'
import type { Rule, Rules } from './rules.js'

/** A batch of 8-bit images: rows of interleaved channels, what `sharp().raw()` gives and takes. */
export interface Images {
  /** `count x height x width x channels` values. */
  readonly data: Uint8Array
  readonly count: number
  readonly height: number
  readonly width: number
  readonly channels: number
}
/** Pixel values in [0, 256) that are already continuous: no noise is added to them. */
export interface FloatImages extends Omit<Images, 'data'> {
  readonly data: Float32Array
}

/** The latents of a batch, one row an image: every scale's part, finest first, flattened. */
export interface Latents {
  /** `count x dims` values. */
  readonly data: Float32Array
  readonly count: number
  /** Length of a row: height x width x channels. */
  readonly dims: number
  /** Where each scale's part lies in a row. */
  readonly scales: readonly LatentScale[]
}
export interface LatentScale {
  readonly offset: number
  readonly shape: readonly [height: number, width: number, channels: number]
}

const owned = (value: unknown, isType: (value: unknown) => boolean): boolean =>
  isType(value) && !types.isSharedArrayBuffer((value as Uint8Array).buffer)
const bytes: Rule = {
  expected: 'a Uint8Array that is not shared',
  accepts: (value) => owned(value, types.isUint8Array),
}
export const floats: Rule = {
  expected: 'a Float32Array that is not shared',
  accepts: (value) => owned(value, types.isFloat32Array),
}
const bytesOrFloats: Rule = {
  expected: 'a Uint8Array or a Float32Array that is not shared',
  accepts: (value) => bytes.accepts(value) || floats.accepts(value),
}

/** Images for the engine: 8-bit ones. */
export function toBytes(what: string, images: Images): native.Pixels {
  return toPixels(what, images, bytes)
}

/** Images for the engine, of either type. */
export function toPixels(what: string, images: Images | FloatImages, data: Rule = bytesOrFloats): native.Pixels {
  const size = is.required(is.integer(1))
  const { count, height, width, channels } = pick(what, images, {
    data: is.required(data),
    count: size,
    height: size,
    width: size,
    channels: size,
  })
  checkLength(what, images.data, count * height * width * channels, `${count} x ${height}x${width}x${channels}`)
  return { data: images.data, count, height, width, channels }
}

/** Latents for the engine. */
export function toRows(latents: Latents): native.LatentRows {
  const size = is.required(is.integer(1))
  const { data, count, dims } = pick('latents', latents, { data: is.required(floats), count: size, dims: size })
  checkLength('latents', data, count * dims, `${count} x ${dims}`)
  return { data, count, dims }
}

/** The named fields of `value`, checked; it may have others. */
export function pick<T extends object, K extends keyof T & string>(
  what: string,
  value: T,
  rules: Pick<Rules<T>, K>,
): Pick<T, K> {
  checkOne(what, value, is.object)
  const picked = Object.fromEntries(Object.keys(rules).map((field) => [field, value[field as K]])) as Pick<T, K>
  checkOne(what, picked, is.nested(rules as Rules))
  return picked
}

function checkLength(what: string, data: ArrayLike<number>, expected: number, sizes: string): void {
  if (data.length !== expected) throw shapeError(`${what}.data`, `${sizes} = ${expected} values`, `${data.length}`)
}
