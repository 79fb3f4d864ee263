/**
 * glowflow: invertible generative models of images.
 *
 * An image becomes a latent (`encode`) and comes back (`decode`); the log-probability of an image is exact up to the noise
 * that makes its pixels continuous. Images are rows of interleaved channels, latents one row an image, probabilities natural
 * logarithms, and bits per dimension say so.
 *
 * @module
 */

export type {
  CommonOptions,
  GlowOptions,
  ImageShape,
  Layout,
  ModelConfig,
  ModelOptions,
  NiceOptions,
  RealNvpOptions,
} from './config.js'
export { customDataset, type CustomSource } from './custom.js'
export { type AnyDataset, type Dataset, imagesInMemory, type LabelledImages, type Labels } from './data.js'
export { type Device, type DeviceInfo, type DeviceLike, type DeviceName, listDevices, openDevice } from './device.js'
export { type Direction, directionFromJSON, type DirectionJson, loadDirections, saveDirections } from './direction.js'
export { GlowError, type GlowErrorCode, type OptionProblem } from './error.js'
export { exportOnnx, exportPyTorch, type OnnxOptions, type OnnxPart, type PyTorchOptions } from './export.js'
export { celebA, cifar10, type DatasetOptions, idxFiles, imageFolder, readImages } from './files.js'
export type { FloatImages, Images } from './images.js'
export {
  type ImportedModel,
  type ImportOptions,
  importPyTorch,
  type ImportReport,
  type PyTorchLayout,
} from './import.js'
export type { Labelled } from './labels.js'
export {
  addDirection,
  type Draw,
  interpolateLatents,
  type Interpolation,
  type Latents,
  type LatentScale,
  resample,
} from './latents.js'
export { estimateMemory, type MemoryEstimate } from './memory.js'
export {
  createGlow,
  createNice,
  createRealNvp,
  type Evaluation,
  type FlowModel,
  loadModel,
  resumeTraining,
  type ResumedRun,
  type Noise,
  type SampleOptions,
  type Verification,
} from './model.js'
export type { PathLike } from './options.js'
export { type GridOptions, type Plot, pngGrid, type Series, writePlot, writePngGrid } from './picture.js'
export { type Preset, type PresetName, presets } from './presets.js'
export { type LayerInfo, listLayers } from './structure.js'
export type { Call, Precision } from './task.js'
export type { TrainEvent, TrainingRun, TrainOptions, TrainSummary } from './training.js'
