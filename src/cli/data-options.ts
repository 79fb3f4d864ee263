/** The options of `--data` on commands that read images and train nothing. */

import type { Command, OptionValues } from '@commander-js/extra-typings'

import { type DataSettings, paths, readSettings, settingOptions } from './settings.js'

const wanted = paths('data', ['data.evalPath', 'data.evalFraction', 'data.randomCrop'])

export function dataOptions<A extends unknown[], O extends OptionValues>(command: Command<A, O>): Command<A, O> {
  for (const option of settingOptions('Data:', wanted)) command.addOption(option)
  return command
}

export async function readData(typed: Readonly<Record<string, unknown>>): Promise<DataSettings> {
  return (await readSettings(typed, wanted)).data ?? {}
}
