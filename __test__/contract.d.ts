/** The part of the API's contract that is built: what programs may rely on. `types.spec.ts` holds the package to it. */

export type PathLike = string | URL

export type DeviceLike = DeviceName | Device
export type DeviceName = 'auto' | 'cpu' | 'gpu' | `gpu:${number}`

export interface DeviceInfo {
  readonly name: `gpu:${number}` | 'cpu'
  readonly label: string
  readonly backend: 'flex' | 'vulkan' | 'metal' | 'dx12'
  readonly software: boolean
  readonly precisions: readonly Precision[]
}
export type Precision = 'f32' | 'bf16x3' | 'bf16'

export function listDevices(): Promise<DeviceInfo[]>
export function openDevice(name?: DeviceName): Promise<Device>

export interface Device extends DeviceInfo {
  sync(): Promise<void>
}

export interface Images {
  readonly data: Uint8Array
  readonly count: number
  readonly height: number
  readonly width: number
  readonly channels: number
}
export interface FloatImages extends Omit<Images, 'data'> {
  readonly data: Float32Array
}

export interface DatasetOptions {
  pad?: number
  background?: readonly [red: number, green: number, blue: number]
  size?: number | readonly [height: number, width: number]
  randomCrop?: number
  channels?: 1 | 3 | 4
}

export interface Dataset {
  readonly length: number
  readonly height: number
  readonly width: number
  readonly channels: number
  readonly classes?: readonly string[]
  readonly attributes?: readonly string[]
  readonly fingerprint: string
  batch(
    indices: readonly number[],
  ): Promise<Images & { readonly labels?: Uint32Array; readonly attributes?: Uint8Array }>
  split<const F extends readonly number[]>(fractions: F, options?: { seed?: number }): { [I in keyof F]: Dataset }
}

export function imageFolder(folder: PathLike, options?: DatasetOptions): Promise<Dataset>
export function idxFiles(files: { images: PathLike; labels?: PathLike }, options?: DatasetOptions): Promise<Dataset>
export function cifar10(folder: PathLike, part: 'train' | 'test', options?: DatasetOptions): Promise<Dataset>
export function celebA(files: { images: PathLike; attributes: PathLike }, options?: DatasetOptions): Promise<Dataset>
export function customDataset(source: {
  id: string
  length: number
  height: number
  width: number
  channels: number
  classes?: readonly string[]
  batch(indices: readonly number[]): Promise<Images & { labels?: ArrayLike<number> }>
}): Dataset
export function imagesInMemory(images: Images, labels?: ArrayLike<number>): Dataset

export interface ImageShape {
  imageSize: number | readonly [height: number, width: number]
  channels?: number
}

export interface CommonOptions {
  device?: DeviceLike
  seed?: number
  bits?: number
  precision?: Precision
}

export interface GlowOptions extends ImageShape, CommonOptions {
  levels?: number
  depth?: number
  hidden?: number
  coupling?: 'affine' | 'additive'
  permutation?: 'conv1x1-lu' | 'conv1x1' | 'shuffle' | 'reverse'
  edgeBias?: boolean
  scale?: 'sigmoid' | 'bounded'
  learnTop?: boolean
  classes?: number
  classifierWeight?: number
}

export interface RealNvpOptions extends ImageShape, CommonOptions {
  levels?: number
  blocks?: number
  hidden?: number
}

export interface NiceOptions extends ImageShape, CommonOptions {
  couplings?: number
  hidden?: number
  layers?: number
  prior?: 'logistic' | 'gaussian'
  whitening?: 'none' | 'approximate' | 'zca'
}

export type ModelConfig =
  | ({
      readonly kind: 'glow'
      readonly layout: 'glow' | 'rosinality' | 'chaiyujin' | 'normflows'
      readonly classes?: number
    } & Readonly<Required<Omit<GlowOptions, 'device' | 'classes'>>>)
  | ({ readonly kind: 'realnvp' } & Readonly<Required<Omit<RealNvpOptions, 'device'>>>)
  | ({ readonly kind: 'nice' } & Readonly<Required<Omit<NiceOptions, 'device'>>>)

export function createGlow(options: GlowOptions): Promise<FlowModel>
export function createRealNvp(options: RealNvpOptions): Promise<FlowModel>
export function createNice(options: NiceOptions): Promise<FlowModel>
export function estimateMemory(
  model: ModelConfig,
  train?: TrainOptions,
): { readonly parameters: number; readonly stored: number; readonly inputs: number; readonly constant: number }

export interface Latents {
  readonly data: Float32Array
  readonly count: number
  readonly dims: number
  readonly scales: readonly {
    readonly offset: number
    readonly shape: readonly [height: number, width: number, channels: number]
    readonly distribution?: 'normal' | 'logistic'
  }[]
}

export interface Call {
  signal?: AbortSignal
  precision?: Precision
  batchSize?: number
}
export interface Noise {
  dequantize?: 'midpoint' | 'uniform' | Float32Array
  seed?: number
  draws?: number
}
export interface Labelled extends Call {
  labels?: number | ArrayLike<number>
}
export interface SampleOptions extends Labelled {
  count?: number
  temperature?: number
  seed?: number
}

export interface FlowModel extends AsyncDisposable {
  readonly config: ModelConfig
  readonly device: DeviceInfo
  readonly parameterCount: number
  readonly step: number

  readonly initialized: boolean
  initialize(data: Dataset | Images): Promise<void>

  encode(images: Images | FloatImages, options?: Labelled & Noise): Promise<Latents>
  decode(latents: Latents, options?: Labelled): Promise<Images>
  decodeFloat(latents: Latents, options?: Labelled): Promise<FloatImages>
  logProb(images: Images | FloatImages, options?: Labelled & Noise): Promise<Float64Array>
  bitsPerDim(images: Images | FloatImages, options?: Labelled & Noise): Promise<Float64Array>
  classify(images: Images | FloatImages, options?: Call & Noise): Promise<Float64Array[]>
  evaluate(data: Dataset, options?: Call & { limit?: number; seed?: number }): Promise<Evaluation>

  sample(options?: SampleOptions): Promise<Images>
  interpolate(
    from: Images,
    to: Images,
    options?: Labelled & { frames?: number; path?: 'linear' | 'spherical' },
  ): Promise<Images>
  direction(having: Images | Dataset, without: Images | Dataset, options?: Call): Promise<Direction>
  directions(data: Dataset, options?: Call & { only?: readonly string[] }): Promise<Record<string, Direction>>
  shift(images: Images, direction: Direction, options?: Labelled & { amounts?: readonly number[] }): Promise<Images>

  verify(images: Images | FloatImages, options?: Labelled): Promise<Verification>

  train(data: Dataset, options?: TrainOptions): TrainingRun

  save(file: PathLike): Promise<void>
  dispose(): Promise<void>
}

export function resumeTraining(
  checkpoint: PathLike,
  data: Dataset,
  options?: TrainOptions & { device?: DeviceLike },
): Promise<{ readonly model: FlowModel; readonly run: TrainingRun }>
export function loadModel(path: PathLike, options?: { device?: DeviceLike; precision?: Precision }): Promise<FlowModel>

export function exportOnnx(
  model: import('glowflow').FlowModel,
  file: PathLike,
  options: { part: 'encode' | 'decode' | 'logProb' },
): Promise<void>

export interface ImportReport {
  readonly applied: readonly string[]
  readonly missing: readonly { readonly name: string; readonly closest?: string }[]
  readonly unused: readonly string[]
}
export function importPyTorch(
  file: PathLike,
  options: {
    layout: 'rosinality' | 'y0ast' | 'chaiyujin' | 'normflows'
    imageSize: number | readonly [height: number, width: number]
    bits?: number
    inputRange?: 'centred' | 'unit'
    device?: DeviceLike
    allowPartial?: boolean
  },
): Promise<{ model: FlowModel; report: ImportReport }>
export function exportPyTorch(
  model: import('glowflow').FlowModel,
  file: PathLike,
  options: { layout: 'rosinality' },
): Promise<void>

export interface Evaluation {
  readonly bitsPerDim: number
  readonly standardError: number
  readonly images: number
  readonly classificationError?: number
}

export interface Verification {
  readonly maxError: number
  readonly pixelMismatches: number
  readonly maxConditionNumber: number
  readonly worstLayer: string
}

export interface Direction {
  readonly data: Float32Array
  readonly dims: number
  toJSON(): DirectionJson
}
export interface DirectionJson {
  readonly format: 'glowflow-direction'
  readonly version: number
  readonly dims: number
  readonly data: string
}
export function directionFromJSON(json: DirectionJson): Direction
export function saveDirections(file: PathLike, directions: Readonly<Record<string, Direction>>): Promise<void>
export function loadDirections(file: PathLike): Promise<Record<string, Direction>>

export function addDirection(latents: Latents, direction: Direction, amount: number): Latents
export function resample(
  latents: Latents,
  options: { scales: readonly number[]; temperature?: number; seed?: number },
): Latents
export function interpolateLatents(
  from: Latents,
  to: Latents,
  options?: { frames?: number; path?: 'linear' | 'spherical' },
): Latents

export interface TrainOptions {
  steps?: number
  epochs?: number
  seconds?: number
  batchSize?: number
  accumulate?: number
  initImages?: number
  optimizer?: {
    name?: 'adam' | 'adamax'
    learningRate?: number
    betas?: readonly [number, number]
    epsilon?: number
    weightDecay?: number
  }
  schedule?: 'constant' | 'cosine'
  onNotFinite?: 'stop' | 'rollback'
  warmup?: number
  clipNorm?: number
  augment?: { flip?: boolean; shift?: number }
  ema?: number
  activations?: 'auto' | 'stored' | 'inputs' | 'constant'
  seed?: number
  evaluate?: { data: Dataset; every: number; limit?: number }
  folder?: PathLike
  checkpoint?: { folder?: PathLike; every?: number; keep?: number }
  sample?: { folder?: PathLike; every?: number; count?: number; temperature?: number }
  signal?: AbortSignal
}

export type TrainEvent =
  | {
      readonly type: 'run-start'
      readonly step: number
      readonly batchesPerEpoch: number
      readonly seconds: number
    }
  | {
      readonly type: 'step-end'
      readonly step: number
      readonly epoch: number
      readonly loss: number
      readonly gradientNorm: number
      readonly learningRate: number
      readonly imagesPerSecond: number
      readonly rebuildError?: number
      readonly merged: number
    }
  | ({ readonly type: 'evaluation-end'; readonly step: number } & Evaluation)
  | { readonly type: 'checkpoint-end'; readonly step: number; readonly path: string }
  | { readonly type: 'sample-end'; readonly step: number; readonly path: string }
  | { readonly type: 'warning'; readonly step: number; readonly code: string; readonly message: string }
  | { readonly type: 'run-end'; readonly summary: TrainSummary }

export interface TrainSummary {
  readonly step: number
  readonly loss: number
  readonly reason: 'finished' | 'stopped'
  readonly seconds: number
  readonly checkpoint?: string
}

export interface TrainingRun extends AsyncIterable<TrainEvent> {
  readonly finished: Promise<TrainSummary>
  stop(): Promise<TrainSummary>
  unref(): void
}

export type PresetName =
  'mnist' | 'cifar10-small' | 'cifar10' | 'imagenet32' | 'imagenet64' | 'lsun64' | 'lsun96' | 'celeba256'
export const presets: Readonly<
  Record<PresetName, { readonly model: GlowOptions; readonly train: TrainOptions; readonly data: DatasetOptions }>
>

export interface GridOptions {
  columns?: number
  gap?: number
  background?: readonly [red: number, green: number, blue: number]
}
export function pngGrid(images: Images, options?: GridOptions): Promise<Uint8Array>
export function readImages(files: readonly PathLike[], options?: DatasetOptions): Promise<Images>
export function writePngGrid(file: PathLike, images: Images, options?: GridOptions): Promise<void>

export type GlowErrorCode =
  | 'ERR_GLOW_OPTION'
  | 'ERR_GLOW_SHAPE'
  | 'ERR_GLOW_DEVICE_UNAVAILABLE'
  | 'ERR_GLOW_PRECISION_UNSUPPORTED'
  | 'ERR_GLOW_OUT_OF_MEMORY'
  | 'ERR_GLOW_NOT_FINITE'
  | 'ERR_GLOW_SINGULAR'
  | 'ERR_GLOW_FILE'
  | 'ERR_GLOW_IO'
  | 'ERR_GLOW_DATA'
  | 'ERR_GLOW_LABELS'
  | 'ERR_GLOW_LOCKED'
  | 'ERR_GLOW_NOT_INITIALIZED'
  | 'ERR_GLOW_WEIGHTS'
  | 'ERR_GLOW_BUSY'
  | 'ERR_GLOW_DISPOSED'
  | 'ERR_GLOW_INTERNAL'

export class GlowError extends Error {
  private constructor()
  readonly name: 'GlowError'
  readonly code: GlowErrorCode
  readonly details: Readonly<Record<string, unknown>>
  static isInstance(value: unknown): value is GlowError
}
