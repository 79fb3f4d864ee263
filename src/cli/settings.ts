/**
 * Settings of a run: what `--config` holds, what the options of the command line say over it, and what a run folder keeps.
 * Names and checks are the API's own; a sentence about each is here, for `--help` and for the schema.
 */

import { glowRules } from '../config.js'
import { datasetRules } from '../files.js'
import type { DatasetOptions, GlowOptions, TrainOptions } from '../index.js'
import * as is from '../rules.js'
import type { Rule, Rules } from '../rules.js'
import { trainRules } from '../training.js'

/** Where images come from, and how they are made ready. */
export interface DataSettings extends DatasetOptions {
  path?: string
  format?: Format
  part?: 'train' | 'test'
  attributeFile?: string
  evalPath?: string
  evalFraction?: number
}
export const formats = ['idx', 'cifar10', 'folder', 'celeba'] as const
export type Format = (typeof formats)[number]

type Within<T> = Partial<Omit<NonNullable<T>, 'data' | 'folder'>>
/** The training options that a file can hold. */
export interface TrainSettings extends Omit<TrainOptions, 'signal' | 'folder' | 'evaluate' | 'checkpoint' | 'sample'> {
  folder?: string
  evaluate?: Within<TrainOptions['evaluate']>
  checkpoint?: Within<TrainOptions['checkpoint']>
  sample?: Within<TrainOptions['sample']>
}

export interface Settings {
  model?: Partial<GlowOptions>
  train?: TrainSettings
  data?: DataSettings
}

/** `rules` without those of `names`, none of them required. */
export function loosely(rules: Rules, ...names: string[]): Rules {
  const kept = Object.entries(rules).filter(([name]) => !names.includes(name))
  return Object.fromEntries(kept.map(([name, rule]) => [name, { ...rule, required: false }]))
}
const within = (rule: Rule): Rule => is.nested(loosely(rule.rules ?? {}, 'data', 'folder'))

export const sections: { readonly [Section in keyof Required<Settings>]: Rules } = {
  model: loosely(glowRules),
  train: {
    ...loosely(trainRules, 'signal'),
    evaluate: within(trainRules.evaluate),
    checkpoint: within(trainRules.checkpoint),
    sample: within(trainRules.sample),
  },
  data: {
    path: is.path,
    format: is.oneOf(...formats),
    part: is.oneOf('train', 'test'),
    attributeFile: is.path,
    ...datasetRules,
    evalPath: is.path,
    evalFraction: {
      expected: 'a number between 0 and 1',
      accepts: (value) => is.positive.accepts(value) && (value as number) < 1,
      schema: { type: 'number', exclusiveMinimum: 0, exclusiveMaximum: 1 },
    },
  },
}

/** One sentence about each setting. */
export const about: Readonly<Record<string, string>> = {
  'model.imageSize': 'height and width, HxW if they differ (default in training: those of the data)',
  'model.channels': 'channels of an image: 1, 3 or 4 (default: 3)',
  'model.levels': 'scales, L in the paper (default: 3)',
  'model.depth': 'flow steps of each scale, K in the paper (default: 32)',
  'model.hidden': 'channels inside each coupling net (default: 512)',
  'model.coupling': 'scale and shift, or shift alone (default: affine)',
  'model.permutation': 'what mixes the channels (default: conv1x1-lu)',
  'model.edgeBias': 'one more input channel that marks the border, as in the original code',
  'model.scale': 'how the affine coupling scales, bounded to within [0.5, 2] or not (default: sigmoid)',
  'model.learnTop': 'learn the mean and scale of the coarsest latents (default: yes)',
  'model.bits': 'bits of each channel that are modelled (default: 8)',
  'model.precision': 'arithmetic inside the coupling nets (default: f32)',
  'model.device': 'auto, cpu, gpu or gpu:N (default: auto, a hardware GPU, else the CPU)',
  'model.seed': 'of the initial weights (default: drawn at random)',

  'train.folder': 'the run folder (default: runs/<data>-<date>)',
  'train.steps': 'end when the weights have had this many steps',
  'train.epochs': 'end when the weights have had this many passes over the data',
  'train.seconds': 'end after this many seconds',
  'train.batchSize': 'images that are run through the model at once (default: 64)',
  'train.accumulate': 'batches whose gradients make one step (default: 1)',
  'train.initImages': 'images from which the actnorms are set (default: 256)',
  'train.optimizer.name': 'what makes steps of gradients (default: adam)',
  'train.optimizer.learningRate': 'after the warm-up (default: 0.001)',
  'train.optimizer.betas': 'decay of the two moments (default: 0.9,0.999)',
  'train.optimizer.epsilon': 'added to the root of the second moment (default: 1e-8)',
  'train.optimizer.weightDecay': 'decoupled weight decay (default: 0)',
  'train.schedule': 'of the learning rate after the warm-up; cosine falls to 0 at the limit (default: constant)',
  'train.warmup': 'steps over which the learning rate rises from 0 (default: 1000)',
  'train.clipNorm': 'largest gradient norm, over all weights together (default: 50)',
  'train.onNotFinite': 'a loss that is no number ends the run, or sends it back to the last checkpoint (default: stop)',
  'train.augment.flip': 'mirror every second training image, at random',
  'train.augment.shift': 'move training images at random by up to this part of their size, 0.1 in the original code',
  'train.ema': 'decay of the moving average of the weights, which is what is scored, sampled and saved',
  'train.activations': 'how activations are held: the fastest way that fits, or one of three (default: auto)',
  'train.seed': 'orders the data, draws the noise (default: 0)',
  'train.evaluate.every': 'steps between two scores of held-out images (default: 1000)',
  'train.evaluate.limit': 'score only so many held-out images',
  'train.checkpoint.every': 'steps between two checkpoints (default: 1000)',
  'train.checkpoint.keep': 'newest checkpoints that are kept, beside the best (default: 3)',
  'train.sample.every': 'steps between two sample grids (default: 1000)',
  'train.sample.count': 'images of a sample grid (default: 64)',
  'train.sample.temperature': 'of the sample grids (default: 0.7)',

  'data.path': 'a folder or an IDX file of images',
  'data.format': 'what --data holds (default: found out, and said)',
  'data.part': 'of MNIST and CIFAR-10 folders (default: train to train, else test)',
  'data.attributeFile': "CelebA's list of attributes (default: the list_attr_* beside the images)",
  'data.size': 'resize to cover this size, HxW or one number, and crop about the centre',
  'data.randomCrop': 'crop to this size, anywhere in training, about the centre otherwise',
  'data.pad': 'pixels of background added on every side (default: 0)',
  'data.background': 'behind transparent pixels and padding, red,green,blue (default: 0,0,0)',
  'data.channels':
    'turn grey images into colour, colour into grey: 1, 3 or 4 (default: 3 for picture files, else as stored)',
  'data.evalPath': 'held-out images to score during training, of the same kind as --data',
  'data.evalFraction': 'part of the data that is held out and scored instead',
}

/** Every setting that is no set of settings, with its path. */
export function leaves(rules: Rules, prefix: string): [path: string, rule: Rule][] {
  return Object.entries(rules).flatMap(([name, rule]): [string, Rule][] =>
    rule.rules ? leaves(rule.rules, `${prefix}${name}.`) : [[prefix + name, rule]],
  )
}
export const ruleOf = new Map(Object.entries(sections).flatMap(([section, rules]) => leaves(rules, `${section}.`)))

/** The settings of a section that have an option, all or but `without`, in the order of their sentences. */
export function paths(section: keyof Settings, without: readonly string[] = []): string[] {
  return Object.keys(about).filter(
    (path) => path.startsWith(`${section}.`) && ruleOf.has(path) && !without.includes(path),
  )
}
