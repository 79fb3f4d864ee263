/** The model that a command works with. */

import { Option } from '@commander-js/extra-typings'

import type { DeviceName } from '../index.js'
import { number } from './command.js'
import { about } from './settings.js'

export const modelOption = () =>
  new Option('--model <path>', 'a model file, a checkpoint or a run folder').makeOptionMandatory().helpGroup('Model:')
export const deviceOption = () =>
  new Option('--device <name>', about['model.device']!).argParser((text) => text as DeviceName).helpGroup('Model:')
export const batchSizeOption = () =>
  new Option('--batch-size <n>', 'images worked on at once (default: 32, fewer where they are large)')
    .argParser(number)
    .helpGroup('Model:')
