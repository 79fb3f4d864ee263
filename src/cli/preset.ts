/** Recipes by name, under what a file and the command line say. */

import { Option } from '@commander-js/extra-typings'
import { closest } from 'fastest-levenshtein'

import { type PresetName, presets } from '../index.js'
import * as is from '../rules.js'
import { usageError } from './failure.js'
import type { Settings } from './settings.js'

const names = Object.keys(presets) as PresetName[]

export const presetOption = (): Option<'--preset <name>', undefined> =>
  new Option('--preset <name>', `a recipe, under --config and options: ${names.join(', ')}`)

export const isPreset = (name: string): name is PresetName => names.includes(name as PresetName)

/** A preset's settings. */
export function presetSettings(name: string): Settings {
  if (isPreset(name)) return presets[name] as Settings
  throw usageError(`Unknown preset ${name}, the closest known one is ${closest(name, names)}`)
}

/** A preset's settings for data that say how large a model's images are. */
export function recipe(name: string): Settings {
  const { model: { imageSize: _, channels: __, ...model } = {}, ...rest } = presetSettings(name)
  return { ...rest, model }
}

const limits = ['steps', 'epochs', 'seconds'] as const

/** `given` over `under`, setting by setting; a limit that is given replaces those under it. */
export function over(under: Settings, given: Settings): Settings {
  const limited = limits.some((limit) => given.train?.[limit] !== undefined)
  const { steps: _, epochs: __, seconds: ___, ...train } = under.train ?? {}
  return merged(limited ? { ...under, train } : under, given) as Settings
}

function merged(under: object, given: object): object {
  const entries = Object.entries(given).map(([name, value]) => {
    const below: unknown = Reflect.get(under, name)
    return [name, is.object.accepts(below) && is.object.accepts(value) ? merged(below as object, value) : value]
  })
  return { ...under, ...Object.fromEntries(entries) }
}
