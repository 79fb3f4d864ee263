/** The model that a command works with. */

import { Option } from '@commander-js/extra-typings'

import type { DeviceName, FlowModel, Images } from '../index.js'
import { number, numbers } from './command.js'
import { about } from './settings.js'

export const modelOption = () =>
  new Option('--model <path>', 'a model file, a checkpoint or a run folder').makeOptionMandatory().helpGroup('Model:')
export const deviceOption = () =>
  new Option('--device <name>', about['model.device']!).argParser((text) => text as DeviceName).helpGroup('Model:')
export const batchSizeOption = () =>
  new Option('--batch-size <n>', 'images worked on at once (default: 32, fewer where they are large)')
    .argParser(number)
    .helpGroup('Model:')

export const precisionOption = () =>
  new Option('--precision <name>', 'of the coupling nets: f32, bf16x3 or bf16 (default: f32)')
    .choices(['f32', 'bf16x3', 'bf16'] as const)
    .helpGroup('Model:')

export const labelsOption = () =>
  new Option('--labels <n,n>', 'of a class-conditional model: one class for all images, or one each')
    .argParser((text) => (text.includes(',') ? numbers(text) : number(text)))
    .helpGroup('Model:')

/** Labels as typed, or else those that the data have, where the model needs some. */
export function labelsOf(
  { config }: FlowModel,
  typed: number | number[] | undefined,
  images?: Images & { readonly labels?: Uint32Array },
): { labels?: number | ArrayLike<number> } {
  const labels = typed ?? (!('classes' in config) ? undefined : images?.labels)
  return labels === undefined ? {} : { labels }
}
