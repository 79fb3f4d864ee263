/** The options about images on commands that train nothing. */

import type { Command, OptionValues } from '@commander-js/extra-typings'

import { readSettings } from './config-file.js'
import { settingOptions } from './flags.js'
import { type DataSettings, paths } from './settings.js'

const ofTraining = ['data.evalPath', 'data.evalFraction']
const ofDataSets = ['data.path', 'data.format', 'data.part', 'data.attributeFile']

/** All that `--data` takes. `part` is the one that the command opens where none is named. */
export function dataOptions<A extends unknown[], O extends OptionValues>(
  command: Command<A, O>,
  part: 'train' | 'test' = 'test',
): Command<A, O> {
  return add(command, paths('data', ofTraining), { 'data.part': part })
}

/** How single pictures are made ready. */
export function pictureOptions<A extends unknown[], O extends OptionValues>(command: Command<A, O>): Command<A, O> {
  return add(command, paths('data', [...ofTraining, ...ofDataSets]), {})
}

/** The defaults are those of the command, not of training. */
function add<A extends unknown[], O extends OptionValues>(
  command: Command<A, O>,
  wanted: readonly string[],
  usual: Readonly<Record<string, string>>,
): Command<A, O> {
  const defaults = { ...usual, 'data.channels': 'those of the model' }
  for (const option of settingOptions('Images:', wanted, defaults)) command.addOption(option)
  return command
}

export async function readData(typed: Readonly<Record<string, unknown>>): Promise<DataSettings> {
  return (await readSettings(typed, paths('data', ofTraining))).data ?? {}
}
