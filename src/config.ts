/** What a model is made of, as people write it and as the engine keeps it. */

import { randomInt } from 'node:crypto'

import * as native from '#native'

import { type DeviceLike, deviceRule } from './device.js'
import { engineSays } from './error.js'
import { check } from './options.js'
import * as is from './rules.js'
import type { Rules } from './rules.js'
import { type Precision, precisionRule } from './task.js'

export interface ImageShape {
  /** Height and width; Glow: each a multiple of `2 ** levels`. */
  imageSize: number | readonly [height: number, width: number]
  /** 1, 3 or 4. @default 3 */
  channels?: number
}

export interface CommonOptions {
  /** @default 'auto' */
  device?: DeviceLike
  /** Seeds the initial weights. @default drawn at random and kept in `model.config` */
  seed?: number
  /** Bits of each channel that are modelled; 5 is what the Glow paper uses for faces. @default 8 */
  bits?: number
  /** Of the coupling nets. Rejects with `ERR_GLOW_PRECISION_UNSUPPORTED` rather than fall back. @default 'f32' */
  precision?: Precision
}

/** Glow, Kingma & Dhariwal 2018, https://arxiv.org/abs/1807.03039; the defaults are the CIFAR-10 model of its section 6. */
export interface GlowOptions extends ImageShape, CommonOptions {
  /** Scales, L in the paper. @default 3 */
  levels?: number
  /** Flow steps of each scale, K in the paper. @default 32 */
  depth?: number
  /** Channels inside each coupling net. @default 512 */
  hidden?: number
  /** Scale and shift, or shift alone (section 3.3). @default 'affine' */
  coupling?: 'affine' | 'additive'
  /** What mixes the channels: a 1x1 convolution in its PLU form or plain (section 3.2), or a fixed order. @default 'conv1x1-lu' */
  permutation?: 'conv1x1-lu' | 'conv1x1' | 'shuffle' | 'reverse'
  /** One more input channel that marks the border, as in the original code. @default false */
  edgeBias?: boolean
  /** The affine coupling's scale: sigmoid(h + 2) as in the paper's code, or kept within [0.5, 2]. @default 'sigmoid' */
  scale?: 'sigmoid' | 'bounded'
  /** Learn the mean and scale of the coarsest latents. @default true */
  learnTop?: boolean
  /** Classes of a class-conditional model: each has a prior of the coarsest latents of its own. @default none */
  classes?: number
  /** What a classifier's error, in bits, counts for in the loss beside bits per dimension; 0 for no classifier. @default 0 */
  classifierWeight?: number
}

/** Whose numbers are trained: those of the original code, or of the project that the weights were imported from. */
export type Layout = 'glow' | 'rosinality' | 'chaiyujin' | 'normflows'

/** Every option, defaults filled in: `createGlow(model.config)` builds the same model again. */
export type ModelConfig = { readonly kind: 'glow'; readonly layout: Layout } & Readonly<
  Required<Omit<GlowOptions, 'device' | 'classes'>>
> & { readonly classes?: number }

/** What only a config has: a new model has no choice. */
interface Fixed {
  kind?: 'glow'
  layout?: 'glow'
}

export const glowRules: Rules<GlowOptions & Fixed> = {
  kind: is.oneOf('glow'),
  layout: is.oneOf('glow'),
  imageSize: is.required(is.size),
  channels: is.integer(0),
  device: deviceRule,
  seed: is.seed,
  bits: is.integer(0),
  precision: precisionRule,
  levels: is.integer(0),
  depth: is.integer(0),
  hidden: is.integer(0),
  coupling: is.oneOf('affine', 'additive'),
  permutation: is.oneOf('conv1x1-lu', 'conv1x1', 'shuffle', 'reverse'),
  edgeBias: is.boolean,
  scale: is.oneOf('sigmoid', 'bounded'),
  learnTop: is.boolean,
  classes: is.integer(0),
  classifierWeight: is.finite,
}

/** The engine's `ModelConfig` of these options, as JSON, defaults left out but for a seed. */
export function toGlowConfig(options: GlowOptions): string {
  check(options, glowRules, (usable) => engineSays(() => native.modelProblems(glowJson(usable))))
  return glowJson({ ...options, seed: options.seed ?? randomInt(2 ** 48 - 1) })
}

function glowJson({ imageSize, channels, device: _, precision: __, kind: ___, ...rest }: GlowOptions & Fixed): string {
  const [height, width] = typeof imageSize === 'number' ? [imageSize, imageSize] : (imageSize ?? [])
  return JSON.stringify({ kind: 'glow', image: { height, width, channels }, ...rest })
}

/** A model's config from the engine's. */
export function fromGlowConfig(json: string, precision: Precision): ModelConfig {
  const { kind, image, classes, ...rest } = JSON.parse(json)
  const { height, width, channels } = image
  const imageSize = height === width ? height : [height, width]
  return { kind, imageSize, channels, precision, ...rest, ...(classes === null ? {} : { classes }) }
}
