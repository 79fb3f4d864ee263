/**
 * Settings of a run: what `--config` holds, what the options of the command line say over it, and what a run folder keeps.
 * Names and checks are the API's own; a sentence about each is here, for `--help` and for the schema.
 */

import { kindRule, type ModelOptions, modelRules, rulesFor } from '../config.js'
import { datasetRules } from '../files.js'
import type { DatasetOptions, TrainOptions } from '../index.js'
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
/** Of each kind, none required; as many classes as the data have. */
type Loose<T> = T extends { kind?: 'glow' } ? Partial<Omit<T, 'classes'>> & { classes?: number | 'auto' } : Partial<T>
/** The training options that a file can hold. */
export interface TrainSettings extends Omit<TrainOptions, 'signal' | 'folder' | 'evaluate' | 'checkpoint' | 'sample'> {
  folder?: string
  evaluate?: Within<TrainOptions['evaluate']>
  checkpoint?: Within<TrainOptions['checkpoint']>
  sample?: Within<TrainOptions['sample']>
}

export interface Settings {
  model?: Loose<ModelOptions>
  train?: TrainSettings
  data?: DataSettings
}

/** `rules` without those of `names`, none of them required. */
export function loosely(rules: Rules, ...names: string[]): Rules {
  const kept = Object.entries(rules).filter(([name]) => !names.includes(name))
  return Object.fromEntries(kept.map(([name, rule]) => [name, { ...rule, required: false }]))
}
const within = (rule: Rule): Rule => is.nested(loosely(rule.rules ?? {}, 'data', 'folder'))

/** A number, or that of the training data. */
const classes: Rule = {
  expected: "'auto' or an integer of at least 2",
  accepts: (value) => value === 'auto' || is.integer(2).accepts(value),
  schema: { oneOf: [{ const: 'auto' }, is.integer(2).schema] },
}

export const sections: { readonly [Section in keyof Required<Settings>]: Rules } = {
  model: loosely({ ...modelRules.glow, ...modelRules.realnvp, ...modelRules.nice, kind: kindRule, classes }),
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

/** Those of the model that settings name. */
export function modelSection(model: unknown): Rules {
  const rules = rulesFor(model)
  return loosely({ ...rules, ...(rules['classes'] && { classes }) })
}

/** One sentence about each setting. Where a default differs by kind, Glow's comes first. */
export const about: Readonly<Record<string, string>> = {
  'model.kind': 'which model (default: glow)',
  'model.imageSize': 'height and width, HxW if they differ (default in training: those of the data)',
  'model.channels': 'channels of an image: 1, 3 or 4 (default: 3; nice: 1)',
  'model.levels': 'glow, realnvp: scales, L in the Glow paper (default: 3; realnvp: 2)',
  'model.depth': 'glow: flow steps of each scale, K in the paper (default: 32)',
  'model.hidden': 'channels or units inside each coupling net (default: 512; realnvp: 64; nice: 1000)',
  'model.coupling': 'glow: scale and shift, or shift alone (default: affine)',
  'model.permutation': 'glow: what mixes the channels (default: conv1x1-lu)',
  'model.edgeBias': 'glow: one more input channel that marks the border, as in the original code',
  'model.scale': 'glow: how the affine coupling scales, bounded to within [0.5, 2] or not (default: sigmoid)',
  'model.learnTop': 'glow: learn the mean and scale of the coarsest latents (default: yes)',
  'model.classes': 'glow: classes of a class-conditional model, auto for those of the training data',
  'model.classifierWeight': 'glow: what a classifier counts for in the loss, with --classes (default: 0)',
  'model.blocks': 'realnvp: residual blocks of each coupling net (default: 8)',
  'model.couplings': 'nice: additive couplings (default: 4)',
  'model.layers': 'nice: hidden layers of each coupling net (default: 5)',
  'model.prior': 'nice: distribution of the latents (default: logistic)',
  'model.whitening': 'nice: pixels as they are, standardised, or decorrelated (default: none)',
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
  'train.initImages': 'images from which actnorms or a whitening are set (default: 256)',
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
