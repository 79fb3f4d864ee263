/** Settings of a file and of the command line, checked as the API checks them. */

import { readFile } from 'node:fs/promises'

import { GlowError } from '../index.js'
import { check } from '../options.js'
import * as is from '../rules.js'
import type { Rules } from '../rules.js'
import { CliError, exitCode, fileError } from './failure.js'
import { overlay } from './flags.js'
import { over } from './preset.js'
import { modelSection, sections, type Settings } from './settings.js'

/** The settings of a file, if any, with those of the command line over them and others, such as a preset's, under them; checked. */
export async function readSettings(
  typed: Readonly<Record<string, unknown>>,
  wanted: readonly string[],
  file?: string,
  under: Settings = {},
): Promise<Settings> {
  const given = file === undefined ? {} : await readConfig(file)
  overlay(given, typed, wanted)
  const settings = over(under, given)
  check(settings, configRules(settings))
  return settings
}

/** What settings may hold: those of a model depend on its kind. */
const configRules = (settings: unknown): Rules<Settings> => ({
  model: is.nested(modelSection(is.object.accepts(settings) ? (settings as Settings).model : undefined)),
  train: is.nested(sections.train),
  data: is.nested(sections.data),
})

/** What a file of JSON holds. */
export async function readJson(file: string): Promise<unknown> {
  const text = await readFile(file, 'utf8')
  try {
    return JSON.parse(text)
  } catch (error) {
    throw fileError(file, `it is not JSON (${(error as Error).message})`)
  }
}

async function readConfig(file: string): Promise<Settings> {
  const config = await readJson(file)
  try {
    check(config as Settings & { $schema?: string }, { $schema: is.path, ...configRules(config) })
  } catch (error) {
    if (!GlowError.isInstance(error)) throw error
    throw new CliError(`${file}: ${error.message}`, error.code, exitCode.usage)
  }
  const { $schema: _, ...settings } = config as Settings & { $schema?: string }
  return settings
}
