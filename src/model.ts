/// <reference lib="esnext.disposable" preserve="true" />

/** Models: images to latents and back, likelihoods, samples, edits. */

import * as native from '#native'

import {
  fromModelConfig,
  type GlowOptions,
  type ModelConfig,
  type ModelKind,
  type ModelOptions,
  type NiceOptions,
  type OptionsByKind,
  type RealNvpOptions,
  kindOf,
  toConfigOf,
} from './config.js'
import { type AnyDataset, datasetRule, toDataset } from './data.js'
import { type DeviceInfo, type DeviceLike, deviceRule, resolveDevice } from './device.js'
import { type Direction, toDirection, toDirections, toValues } from './direction.js'
import { GlowError } from './error.js'
import type { OnnxPart } from './export.js'
import { type FloatImages, floats, type Images, toBytes, toPixels } from './images.js'
import { type Labelled, labelRules } from './labels.js'
import {
  type Draw,
  drawRules,
  type Interpolation,
  interpolationRules,
  type Latents,
  type LatentScale,
  toDraw,
  toInterpolation,
  toRows,
} from './latents.js'
import { check, checkOne, type PathLike, toPath } from './options.js'
import * as is from './rules.js'
import type { Rule, Rules } from './rules.js'
import { type Call, callRules, engine, perform, type Precision, precisionRule } from './task.js'
import { startTraining, type TrainingRun, type TrainOptions } from './training.js'

/** How 8-bit pixels become continuous (uniform dequantization: Theis et al. 2016, https://arxiv.org/abs/1511.01844, section 3.1). */
export interface Noise {
  /**
   * Where in its bin a pixel's value is put: its middle, so that calls are repeatable; a draw by `seed`; or given, one
   * number in [0, 1) for each pixel. @default 'midpoint' for encode, 'uniform' for likelihoods
   */
  dequantize?: 'midpoint' | 'uniform' | Float32Array
  /** @default 0 */
  seed?: number
  /**
   * Draws of an importance-weighted estimate, Burda et al. 2016, https://arxiv.org/abs/1509.00519; 1 gives the lower bound that
   * papers report, more a higher one. @default 1
   */
  draws?: number
}
const dequantizeRule: Rule = {
  expected: `'midpoint', 'uniform' or ${floats.expected}`,
  accepts: (value) => value === 'midpoint' || value === 'uniform' || floats.accepts(value),
}
const noiseRules: Rules<Noise> = { dequantize: dequantizeRule, seed: is.seed, draws: is.integer(1) }

export interface SampleOptions extends Labelled, Draw {
  /** @default 1 */
  count?: number
}

export interface Evaluation {
  /** Mean over the images. */
  readonly bitsPerDim: number
  /** Standard error of `bitsPerDim` over the images. */
  readonly standardError: number
  /** How many were scored. */
  readonly images: number
  /** Part of them that the classifier takes for another class; only where the model has a classifier. */
  readonly classificationError?: number
}

export interface Verification {
  /** Largest difference of a scaled value, around [-0.5, 0.5), that came back: half a level of 8 bits is 1/512. */
  readonly maxError: number
  /** 8-bit values that differ. */
  readonly pixelMismatches: number
  /** Largest condition number of a 1x1 convolution. */
  readonly maxConditionNumber: number
  /** Path of the flow step that alone inverts worst. */
  readonly worstLayer: string
}

/**
 * A flow and its weights. A model serves many calls at once, all computed off the main thread; arrays are copied before a
 * call returns. Calls reject with a {@link GlowError}; those that take images with `ERR_GLOW_SHAPE` where the size is not
 * the model's, `ERR_GLOW_NOT_INITIALIZED` before the model has seen data, and `ERR_GLOW_DISPOSED` after {@link dispose}.
 */
export class FlowModel implements AsyncDisposable {
  readonly config: ModelConfig
  readonly device: DeviceInfo
  readonly parameterCount: number
  readonly #native: native.Model
  readonly #scales: readonly LatentScale[]
  #run: TrainingRun | undefined
  #training = false
  #disposal: Promise<void> | undefined

  private constructor(model: native.Model, precision: Precision) {
    this.config = fromModelConfig(model.config, precision)
    this.device = model.device as DeviceInfo
    this.parameterCount = model.parameterCount
    this.#native = model
    this.#scales = model.latentScales
  }

  /** @internal */
  static of(model: native.Model, precision: Precision): FlowModel {
    return new FlowModel(model, precision)
  }

  /** Optimizer steps the weights have had. */
  get step(): number {
    return this.#native.step
  }

  /** False until the first images have set what is set from data, such as actnorms; `train` does it, too. */
  get initialized(): boolean {
    return this.#native.initialized
  }

  /**
   * Sets from the first 256 images what is set from data: Glow's actnorms, so that their activations have mean 0 and
   * variance 1 in each channel (section 3.1 of the paper), and NICE's whitening.
   *
   * @throws `ERR_GLOW_DATA` where a channel is constant, `ERR_GLOW_BUSY` in training.
   */
  async initialize(data: AnyDataset | Images | FloatImages): Promise<void> {
    this.#notInTraining()
    await this.#call({}, {}, () => this.#native.initialize(toDataset('data', data)))
  }

  /** Images to latents, exactly inverted by {@link decode}. Repeatable: pixels are put in the middle of their bins. */
  async encode(images: Images | FloatImages, options: Labelled & Noise = {}): Promise<Latents> {
    const rows = await this.#call(options, { ...labelRules, ...noiseRules }, (call) =>
      this.#native.encode(toPixels('images', images), toNoise(options, 'midpoint'), call),
    )
    return { ...rows, scales: this.#scales }
  }

  /**
   * Latents to images.
   *
   * @throws `ERR_GLOW_SHAPE` for rows of another length or values that are not finite.
   */
  async decode(latents: Latents, options: Labelled = {}): Promise<Images> {
    return this.#call(options, labelRules, (call) => this.#native.decode(toRows('latents', latents), call))
  }

  /** As {@link decode}, before the values are cut into bins: pixel values in [0, 256). */
  async decodeFloat(latents: Latents, options: Labelled = {}): Promise<FloatImages> {
    return this.#call(options, labelRules, (call) => this.#native.decodeFloat(toRows('latents', latents), call))
  }

  /**
   * Lower bound on the log-probability of each `bits`-bit image, nats, the bins' width included. For FloatImages the
   * log-density of values in [0, 256).
   */
  async logProb(images: Images | FloatImages, options: Labelled & Noise = {}): Promise<Float64Array> {
    return this.#score(options, { ...labelRules, ...noiseRules }, (call) =>
      this.#native.logProb(toPixels('images', images), toNoise(options, 'uniform'), call),
    )
  }

  /** Bits per dimension of each image: `-logProb / (dims * ln 2)`. */
  async bitsPerDim(images: Images | FloatImages, options: Labelled & Noise = {}): Promise<Float64Array> {
    return this.#score(options, { ...labelRules, ...noiseRules }, (call) =>
      this.#native.bitsPerDim(toPixels('images', images), toNoise(options, 'uniform'), call),
    )
  }

  /**
   * The probability of each class for each image, a row an image: by Bayes' rule from the likelihood of the image under
   * each class, all classes equally likely beforehand.
   *
   * @throws `ERR_GLOW_LABELS` for a model without classes.
   */
  async classify(images: Images | FloatImages, options: Call & Noise = {}): Promise<Float64Array[]> {
    return this.#score(options, noiseRules, (call) =>
      this.#native.classify(toPixels('images', images), toNoise(options, 'uniform'), call),
    )
  }

  /** Mean bits per dimension of the first `limit` images (all by default), with one dequantization draw by `seed` (0). */
  async evaluate(data: AnyDataset, options: Call & { limit?: number; seed?: number } = {}): Promise<Evaluation> {
    return this.#score(options, { limit: is.integer(1), seed: is.seed }, (call) => {
      checkOne('data', data, datasetRule)
      return this.#native.evaluate(toDataset('data', data), options.limit, options.seed ?? 0, call)
    })
  }

  /** New images, drawn from the prior at a temperature. */
  async sample(options: SampleOptions = {}): Promise<Images> {
    return this.#call(options, { ...labelRules, count: is.integer(1), ...drawRules }, (call) => {
      const { temperature, seed } = toDraw(options)
      return this.#native.sample(options.count ?? 1, temperature, seed, call)
    })
  }

  /** For each pair of images, `frames` (8 by default) from the one to the other through latent space, both included. */
  async interpolate(from: Images, to: Images, options: Labelled & Interpolation = {}): Promise<Images> {
    return this.#call(options, { ...labelRules, ...interpolationRules }, (call) => {
      const { frames, path } = toInterpolation(options)
      return this.#native.interpolate(toBytes('from', from), toBytes('to', to), frames, path, call)
    })
  }

  /** The direction from the mean latent of `without` to that of `having` (section 6 of the paper). */
  async direction(
    having: Images | FloatImages | AnyDataset,
    without: Images | FloatImages | AnyDataset,
    options: Call = {},
  ): Promise<Direction> {
    const data = await this.#call(options, {}, (call) =>
      this.#native.direction(toDataset('having', having), toDataset('without', without), call),
    )
    return toDirection(data)
  }

  /**
   * One direction for each attribute of the data, from the mean latent of all images without it to that of those with it;
   * where the data have no attributes, one for each class against all others. Each image is encoded once.
   *
   * `only`: names of those wanted (all by default).
   *
   * @throws `ERR_GLOW_DATA` where the data have neither, and, before any image is encoded, where every image or none has an
   * attribute: all such are named. `ERR_GLOW_OPTION` for a name in `only` that the data do not have.
   */
  async directions(
    data: AnyDataset,
    options: Call & { only?: readonly string[] } = {},
  ): Promise<Record<string, Direction>> {
    const directions = await this.#call(options, { only: is.list('a list of names', is.text.accepts) }, (call) => {
      checkOne('data', data, datasetRule)
      return this.#native.directions(toDataset('data', data), options.only && [...options.only], call)
    })
    return toDirections(directions)
  }

  /** Each image once for each of `amounts` (0 and 1 by default) of the direction, image by image. */
  async shift(
    images: Images,
    direction: Direction,
    options: Labelled & { amounts?: readonly number[] } = {},
  ): Promise<Images> {
    return this.#call(options, { ...labelRules, amounts: is.list('a list of numbers', Number.isFinite) }, (call) => {
      const { amounts = [0, 1] } = options
      const values = toValues('direction', direction)
      return this.#native.shift(toBytes('images', images), values, [...amounts], call)
    })
  }

  /** How well the model inverts on these images: largest error, pixels that differ, conditioning. */
  async verify(images: Images | FloatImages, options: Labelled = {}): Promise<Verification> {
    return this.#call(options, labelRules, (call) => this.#native.verify(toPixels('images', images), call))
  }

  /**
   * Trains on a thread of its own, starting at once, read or not. Other calls on the model use the weights of the last whole
   * step. A failure ends the iteration and rejects `finished`.
   *
   * @throws `ERR_GLOW_OPTION` for every option that cannot be used, `ERR_GLOW_BUSY` where the model is in training already;
   * `finished` rejects with `ERR_GLOW_LOCKED` where another run uses the folder.
   */
  train(data: AnyDataset, options: TrainOptions = {}): TrainingRun {
    return this.#train(data, options)
  }

  /** Weights and config in one safetensors file. Written beside and renamed, so never half a file. */
  async save(file: PathLike): Promise<void> {
    await this.#call({}, {}, () => {
      checkOne('file', file, is.path)
      return this.#native.save(toPath(file))
    })
  }

  /** @internal */
  async exportOnnx(file: string, part: OnnxPart): Promise<void> {
    await this.#call({}, {}, () => this.#native.exportOnnx(file, part))
  }

  /** @internal */
  async exportRosinality(file: string): Promise<void> {
    await this.#call({}, {}, () => this.#native.exportRosinality(file))
  }

  /** Stops a run under way and frees the device's memory. Later calls reject with `ERR_GLOW_DISPOSED`. */
  dispose(): Promise<void> {
    this.#disposal ??= this.#dispose()
    return this.#disposal
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }

  async #dispose(): Promise<void> {
    await this.#run?.stop().catch(() => {})
    await engine(() => this.#native.dispose())
  }

  #train(data: AnyDataset, options: TrainOptions, from?: native.Checkpoint): TrainingRun {
    this.#alive()
    this.#notInTraining()
    const { precision } = this.config
    const run = startTraining(this.#native, data, options, precision, () => (this.#training = false), from)
    this.#training = true
    this.#run = run
    return run
  }

  /** @internal */
  static resume(checkpoint: native.Checkpoint, data: AnyDataset, options: TrainOptions): ResumedRun {
    const model = new FlowModel(checkpoint.model, checkpoint.precision as Precision)
    return { model, run: model.#train(data, options, checkpoint) }
  }

  #alive(): void {
    if (this.#disposal) throw GlowError.of('ERR_GLOW_DISPOSED', 'The model has been disposed of')
  }

  #notInTraining(): void {
    if (this.#training) throw GlowError.of('ERR_GLOW_BUSY', 'The model is in training: stop the run first')
  }

  async #call<T, O extends Call>(
    options: O,
    rules: Omit<Rules<O>, keyof Call>,
    work: (call: native.Call) => Promise<T>,
    usual: Precision = 'f32',
  ): Promise<T> {
    this.#alive()
    check(options, { ...callRules, ...rules } as Rules<O>)
    return perform(options, usual, work)
  }

  /** A call that needs no inverse. */
  #score<T, O extends Call>(
    options: O,
    rules: Omit<Rules<O>, keyof Call>,
    work: (call: native.Call) => Promise<T>,
  ): Promise<T> {
    return this.#call(options, rules, work, this.config.precision)
  }
}

function toNoise({ dequantize, seed, draws }: Noise, usual: 'midpoint' | 'uniform'): native.Noise {
  return { dequantize: dequantize ?? usual, seed: seed ?? 0, draws: draws ?? 1 }
}

/**
 * A Glow model with new weights. Train it, or {@link FlowModel.initialize} it, before anything else.
 *
 * @throws `ERR_GLOW_OPTION` for every option that cannot be used, `ERR_GLOW_DEVICE_UNAVAILABLE`, `ERR_GLOW_OUT_OF_MEMORY`.
 */
export function createGlow(options: GlowOptions): Promise<FlowModel> {
  return create('glow', options)
}

/** A RealNVP model with new weights; as {@link createGlow} otherwise. It has nothing to set from data: training can begin. */
export function createRealNvp(options: RealNvpOptions): Promise<FlowModel> {
  return create('realnvp', options)
}

/**
 * A NICE model with new weights; as {@link createGlow} otherwise. Only one with `whitening` has something to set from data. The
 * latents of one with a logistic prior are drawn from that distribution.
 */
export function createNice(options: NiceOptions): Promise<FlowModel> {
  return create('nice', options)
}

/** A model of the kind that the options name. Not exported: programs know the kind. */
export function createModel({ kind, ...options }: ModelOptions): Promise<FlowModel> {
  return create(kindOf({ kind }), options as OptionsByKind[ModelKind])
}

async function create<Kind extends ModelKind>(kind: Kind, options: OptionsByKind[Kind]): Promise<FlowModel> {
  const config = toConfigOf(kind, options)
  return open(options, (device, precision) => native.createModel(config, device, precision))
}

/**
 * A model file of {@link FlowModel.save}, a checkpoint's folder, or a run's, of which it is the best checkpoint, else the newest. It
 * may have been saved on another kind of device.
 *
 * @throws `ERR_GLOW_IO` where the system refuses, `ERR_GLOW_FILE` where the file is of another format, truncated or hostile,
 * `ERR_GLOW_WEIGHTS` where its weights do not fit its config.
 */
export async function loadModel(
  file: PathLike,
  options: { device?: DeviceLike; precision?: Precision } = {},
): Promise<FlowModel> {
  checkOne('path', file, is.path)
  check(options, { device: deviceRule, precision: precisionRule })
  const absolute = toPath(file)
  return open(options, (device, precision) => native.loadModel(absolute, device, precision))
}

/** A run that goes on, and its model. */
export interface ResumedRun {
  readonly model: FlowModel
  readonly run: TrainingRun
}

/**
 * Goes on from a checkpoint: bit for bit as if the run had never been cut, on a CPU of the same kind, whatever the number of threads.
 * Weights, optimizer, moving average, data order and noise are the run's own; so are its options, but for those given here. Held-out
 * data have to be given again as `evaluate`.
 *
 * `checkpoint` is a checkpoint's folder, a folder of checkpoints or a run's folder: of several it is the newest.
 *
 * @throws `ERR_GLOW_FILE` or `ERR_GLOW_WEIGHTS` where the checkpoint is damaged or does not fit; `finished` rejects with
 * `ERR_GLOW_DATA` where the data are not those of the run.
 */
export async function resumeTraining(
  checkpoint: PathLike,
  data: AnyDataset,
  options: TrainOptions & { device?: DeviceLike } = {},
): Promise<ResumedRun> {
  checkOne('checkpoint', checkpoint, is.path)
  const { device, ...train } = options
  check({ device }, { device: deviceRule })
  checkOne('data', data, datasetRule)
  const absolute = toPath(checkpoint)
  const opened = await resolveDevice(device)
  const read = await engine(() => native.readCheckpoint(absolute, opened))
  return FlowModel.resume(read, data, train)
}

async function open(
  { device, precision = 'f32' }: { device?: DeviceLike; precision?: Precision },
  make: (device: native.Device, precision: Precision) => Promise<native.Model>,
): Promise<FlowModel> {
  const opened = await resolveDevice(device)
  return FlowModel.of(await engine(() => make(opened, precision)), precision)
}
