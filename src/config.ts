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
  /** Height and width. Glow: each a multiple of `2 ** levels`; RealNVP: of `2 ** (levels - 1)`; NICE: an even number of values. */
  imageSize: number | readonly [height: number, width: number]
  /** 1, 3 or 4. @default 3, NICE: 1 */
  channels?: number
}

export interface CommonOptions {
  /** @default 'auto' */
  device?: DeviceLike
  /** Seeds the initial weights. @default drawn at random and kept in `model.config` */
  seed?: number
  /** Bits of each channel that are modelled; 5 is what the Glow paper uses for faces. @default 8 */
  bits?: number
  /**
   * Of the coupling nets, in training and likelihoods: calls that need the inverse are f32 unless they ask. Rejects with
   * `ERR_GLOW_PRECISION_UNSUPPORTED` rather than fall back. @default 'f32'
   */
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

/** RealNVP, Dinh, Sohl-Dickstein & Bengio 2017, https://arxiv.org/abs/1605.08803; the defaults are its CIFAR-10 model. */
export interface RealNvpOptions extends ImageShape, CommonOptions {
  /** Scales. @default 2 */
  levels?: number
  /** Residual blocks of each coupling net. @default 8 */
  blocks?: number
  /** Channels inside the nets of the finest scale; they double with each scale. @default 64 */
  hidden?: number
}

/** NICE, Dinh, Krueger & Bengio 2015, https://arxiv.org/abs/1410.8516; the defaults are its MNIST model. */
export interface NiceOptions extends ImageShape, CommonOptions {
  /** Additive couplings; from 3 on every value can depend on every other. @default 4 */
  couplings?: number
  /** Units of each hidden layer of the coupling nets. @default 1000 */
  hidden?: number
  /** Hidden layers of each coupling net. @default 5 */
  layers?: number
  /** Distribution of the latents. @default 'logistic' */
  prior?: 'logistic' | 'gaussian'
  /**
   * What becomes of the pixels first, set from data once: nothing; each is standardised; or all are decorrelated (ZCA, of at
   * most 4096 values), for which there should be more images than values. @default 'none'
   */
  whitening?: 'none' | 'approximate' | 'zca'
}

/** Options of each kind of model. */
export interface OptionsByKind {
  readonly glow: GlowOptions
  readonly realnvp: RealNvpOptions
  readonly nice: NiceOptions
}
export type ModelKind = keyof OptionsByKind

/** Options of a model of any kind; Glow where none is named. */
export type ModelOptions = {
  [Kind in ModelKind]: OptionsByKind[Kind] & (Kind extends 'glow' ? { kind?: Kind } : { kind: Kind })
}[ModelKind]

/** Whose numbers are trained: those of the original code, or of the project that the weights were imported from. */
export type Layout = 'glow' | 'rosinality' | 'chaiyujin' | 'normflows'
const layoutRule = is.oneOf('glow', 'rosinality', 'chaiyujin', 'normflows')

type Filled<Options> = Readonly<Required<Omit<Options, 'device' | 'classes'>>>

/** Every option, defaults filled in: enough to build the same model again. */
export type ModelConfig =
  | ({ readonly kind: 'glow'; readonly layout: Layout; readonly classes?: number } & Filled<GlowOptions>)
  | ({ readonly kind: 'realnvp' } & Filled<RealNvpOptions>)
  | ({ readonly kind: 'nice' } & Filled<NiceOptions>)

const commonRules: Rules<ImageShape & CommonOptions> = {
  imageSize: is.required(is.size),
  channels: is.integer(0),
  device: deviceRule,
  seed: is.seed,
  bits: is.integer(0),
  precision: precisionRule,
}

/** By kind. What only a config has, a new model has no choice of. */
export const modelRules: {
  readonly [Kind in ModelKind]: Rules<
    OptionsByKind[Kind] & { kind?: Kind } & (Kind extends 'glow' ? { layout?: Kind } : unknown)
  >
} = {
  glow: {
    kind: is.oneOf('glow'),
    layout: is.oneOf('glow'),
    ...commonRules,
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
  },
  realnvp: {
    kind: is.oneOf('realnvp'),
    ...commonRules,
    levels: is.integer(0),
    blocks: is.integer(0),
    hidden: is.integer(0),
  },
  nice: {
    kind: is.oneOf('nice'),
    ...commonRules,
    couplings: is.integer(0),
    hidden: is.integer(0),
    layers: is.integer(0),
    prior: is.oneOf('logistic', 'gaussian'),
    whitening: is.oneOf('none', 'approximate', 'zca'),
  },
}
export const kinds = Object.keys(modelRules) as ModelKind[]
/** As the papers call them. */
export const titles: Readonly<Record<ModelKind, string>> = { glow: 'Glow', realnvp: 'RealNVP', nice: 'NICE' }
export const kindRule = is.oneOf(...kinds)

/** The kind that options name: Glow where they name none, or what is none. */
export function kindOf(options: unknown): ModelKind {
  const kind: unknown = is.object.accepts(options) ? Reflect.get(options as object, 'kind') : undefined
  return kinds.find((known) => known === kind) ?? 'glow'
}

/** Rules of the model that options name. */
export const rulesFor = (options: unknown): Rules => ({ ...modelRules[kindOf(options)], kind: kindRule })

/** {@link toModelConfig} of a model that need not be made: of any layout. */
export function toKnownConfig(options: ModelOptions): string {
  const kind = kindOf(options)
  const rules = kind === 'glow' ? { ...rulesFor(options), layout: layoutRule } : rulesFor(options)
  return toJson(kind, options, rules)
}

/** The engine's `ModelConfig` of a model of one kind, as JSON, defaults left out but for a seed. */
export function toConfigOf<Kind extends ModelKind>(kind: Kind, options: OptionsByKind[Kind]): string {
  return toJson(kind, options, modelRules[kind])
}

/** {@link toConfigOf} of the kind that the options name. */
export function toModelConfig(options: ModelOptions): string {
  return toJson(kindOf(options), options, rulesFor(options))
}

function toJson(kind: ModelKind, options: CommonOptions, rules: Rules): string {
  check(options, rules as Rules<CommonOptions>, (usable) =>
    engineSays(() => native.modelProblems(engineJson(kind, usable))),
  )
  return engineJson(kind, { ...options, seed: options.seed ?? randomInt(2 ** 48 - 1) })
}

function engineJson(kind: ModelKind, options: Partial<ImageShape> & CommonOptions): string {
  const { imageSize, channels, device: _, precision: __, ...rest } = options
  const [height, width] = typeof imageSize === 'number' ? [imageSize, imageSize] : (imageSize ?? [])
  return JSON.stringify({ ...rest, kind, image: { height, width, channels } })
}

/** A model's config from the engine's. */
export function fromModelConfig(json: string, precision: Precision): ModelConfig {
  const { kind, image, classes, ...rest } = JSON.parse(json)
  const { height, width, channels } = image
  const imageSize = height === width ? height : [height, width]
  return { kind, imageSize, channels, precision, ...rest, ...(classes == null ? {} : { classes }) }
}
