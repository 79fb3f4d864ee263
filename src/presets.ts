/** Recipes: the paper's models as its code trains them, and small ones that train on a laptop. */

import type { GlowOptions } from './config.js'
import type { DatasetOptions } from './files.js'
import type { TrainOptions } from './training.js'

export type PresetName =
  | 'mnist'
  | 'cifar10-small'
  | 'cifar10'
  | 'cifar10-conditional'
  | 'imagenet32'
  | 'imagenet32-conditional'
  | 'imagenet64'
  | 'lsun64'
  | 'lsun96'
  | 'celeba256'

/** A model, how it is trained, and how its images are made ready. Plain data, which JSON holds. */
export interface Preset {
  readonly model: GlowOptions
  readonly train: Omit<TrainOptions, 'evaluate'>
  readonly data: DatasetOptions
}

/** What all recipes of the paper's code share; the rest is as the defaults have it. */
const paper = { hidden: 512, permutation: 'conv1x1', edgeBias: true, learnTop: true } as const
/** And those that are given the class of each image. */
const conditional = { ...paper, coupling: 'additive', bits: 5, classifierWeight: 0.01 } as const

/** Adamax at 1e-3; the second moment forgets one epoch of 50,000 images, of which the code counts `counted` a step. */
function adamax(counted: number) {
  const stepsPerEpoch = Math.ceil(50_000 / counted)
  return {
    optimizer: { name: 'adamax', learningRate: 1e-3, betas: [0.9, 1 - 1 / stepsPerEpoch] },
    // Ten epochs.
    warmup: Math.ceil((10 * 50_000) / counted),
  } as const
}

/** 8 GPUs, and 40; the code counts 64 images for each, whatever its batch. */
const [on8, on40] = [adamax(8 * 64), adamax(40 * 64)]

/**
 * `cifar10` to `celeba256` are the recipes of the paper's code (https://github.com/openai/glow, README and train.py): plain 1x1
 * convolutions, edge channel, learned top prior, Adamax at 1e-3, a warm-up of ten epochs of 50,000 images whatever the data, and
 * the images of a step that 8 GPUs take (40 for `lsun96` and `celeba256`), here in batches whose gradients are added up. They
 * have no limit, as there: a run goes on until it is stopped or `steps`, `epochs` or `seconds` are given.
 *
 * What differs: gradients longer than `clipNorm` (50) are scaled to it, a guard that the code does without; Adamax corrects its
 * bias as its paper says and not by Adam's formula; the first step has a learning rate that is not 0. What the code has and does
 * not use is off: the moving average of the weights (`ema`) and weight decay.
 *
 * `mnist` and `cifar10-small` are measured here: test 1.356 bits/dim after 150 seconds and 3.808 after 480, on two cores.
 */
export const presets: Readonly<Record<PresetName, Preset>> = freeze({
  mnist: {
    model: { imageSize: 32, channels: 1, levels: 3, depth: 4, hidden: 64 },
    train: { ...small(), seconds: 150 },
    data: { pad: 2 },
  },
  'cifar10-small': {
    model: { imageSize: 32, levels: 3, depth: 4, hidden: 64 },
    train: { ...small(), seconds: 480 },
    data: {},
  },
  cifar10: {
    model: { ...paper, imageSize: 32, levels: 3, depth: 32, coupling: 'affine' },
    train: { ...on8, batchSize: 64, accumulate: 8, augment: { shift: 0.1 } },
    data: {},
  },
  'cifar10-conditional': {
    model: { ...conditional, imageSize: 32, levels: 3, depth: 32, classes: 10 },
    train: { ...on8, batchSize: 64, accumulate: 8, augment: { shift: 0.1 } },
    data: {},
  },
  imagenet32: {
    model: { ...paper, imageSize: 32, levels: 3, depth: 48, coupling: 'affine' },
    train: { ...on8, batchSize: 64, accumulate: 8 },
    data: { size: 32 },
  },
  'imagenet32-conditional': {
    model: { ...conditional, imageSize: 32, levels: 3, depth: 48, classes: 1000 },
    train: { ...on8, batchSize: 64, accumulate: 8 },
    data: { size: 32 },
  },
  imagenet64: {
    model: { ...paper, imageSize: 64, levels: 4, depth: 48, coupling: 'affine' },
    train: { ...on8, batchSize: 16, accumulate: 8 },
    data: { size: 64 },
  },
  lsun64: {
    model: { ...paper, imageSize: 64, levels: 3, depth: 48, coupling: 'affine' },
    train: { ...on8, batchSize: 16, accumulate: 8 },
    data: { size: 96, randomCrop: 64 },
  },
  lsun96: {
    model: { ...paper, imageSize: 96, levels: 5, depth: 64, coupling: 'additive', bits: 5 },
    train: { ...on40, batchSize: 14, accumulate: 20 },
    data: { size: 96 },
  },
  celeba256: {
    model: { ...paper, imageSize: 256, levels: 6, depth: 32, coupling: 'additive', bits: 5 },
    train: { ...on40, batchSize: 8, accumulate: 5 },
    data: { size: 256 },
  },
})

/** What docs/mnist.md and docs/cifar10.md have measured. */
function small() {
  return { batchSize: 32, optimizer: { learningRate: 5e-3 }, schedule: 'cosine', warmup: 100 } as const
}

function freeze<T extends object>(value: T): T {
  for (const inner of Object.values(value)) if (typeof inner === 'object') freeze(inner)
  return Object.freeze(value)
}
