/** Settings as options of the command line. */

import { Option } from '@commander-js/extra-typings'

import * as is from '../rules.js'
import type { Rule, Schema } from '../rules.js'
import { about, ruleOf, sections, type Settings } from './settings.js'

/** Where an option's name is not the last word of its path. */
const names: Readonly<Record<string, string>> = {
  'train.folder': 'out',
  'train.optimizer.name': 'optimizer',
  'train.evaluate.every': 'eval-every',
  'train.evaluate.limit': 'eval-limit',
  'train.checkpoint.every': 'checkpoint-every',
  'train.checkpoint.keep': 'keep-checkpoints',
  'train.sample.every': 'sample-every',
  'train.sample.count': 'sample-count',
  'train.sample.temperature': 'sample-temperature',
  'data.path': 'data',
  'data.evalPath': 'eval-data',
}

const kebab = (name: string): string => name.replace(/[A-Z0-9]+/g, (part) => `-${part.toLowerCase()}`)
const nameOf = (path: string): string => names[path] ?? kebab(path.slice(path.lastIndexOf('.') + 1))

const camel = (name: string): string => name.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase())

/** Options for the command line. `usual`: defaults, by path, that are those of the command and not of training. */
export function settingOptions(
  heading: string,
  wanted: readonly string[],
  usual: Readonly<Record<string, unknown>> = {},
): Option[] {
  return wanted.flatMap((path) => {
    const [name, { schema = {} }] = [nameOf(path), ruleOf.get(path)!]
    const choices = isNames(schema) ? `: ${schema['enum'].join(', ')}` : ''
    const flags = schema['type'] === 'boolean' ? [`--${name}`, `--no-${name}`] : [`--${name} <${valueOf(schema)}>`]
    const plain = about[path]!.replace(/ \(default: .*\)$/, '')
    const ofTraining = about[path]!.slice(plain.length)
    const usually = path in usual ? ` (default: ${usual[path]})` : ofTraining
    return flags.map((flag) =>
      new Option(flag, flag.startsWith('--no-') ? `not --${name}` : plain + choices + usually).helpGroup(heading),
    )
  })
}

function isNames(schema: Schema): schema is { enum: string[] } {
  return Array.isArray(schema['enum']) && typeof schema['enum'][0] === 'string'
}

function valueOf(schema: Schema): string {
  const { type, anyOf, pattern, minItems } = schema
  if (type === 'array')
    return Array<string>(minItems as number)
      .fill('n')
      .join(',')
  if (anyOf) return 'size'
  if (pattern === is.path.schema!['pattern']) return 'path'
  return type === 'string' || isNames(schema) ? 'name' : 'n'
}

/** What was typed, as the API takes it. What is not understood stays text, and the API refuses it with its own sentence. */
function parse(typed: unknown, { schema = {} }: Rule): unknown {
  if (typeof typed !== 'string' || schema['type'] === 'string' || isNames(schema)) return typed
  const parts = typed.split(schema['anyOf'] ? 'x' : ',').map((part) => (part.trim() === '' ? Number.NaN : Number(part)))
  if (parts.some(Number.isNaN)) return typed
  return parts.length === 1 ? parts[0] : parts
}

/** Puts what was typed over settings. */
export function overlay(settings: Settings, typed: Readonly<Record<string, unknown>>, wanted: readonly string[]): void {
  for (const path of wanted) {
    const value = typed[camel(nameOf(path))]
    if (value !== undefined) put(settings, path.split('.'), parse(value, ruleOf.get(path)!))
  }
}

function put(into: object, [name = '', ...rest]: string[], value: unknown): void {
  if (rest.length === 0) Object.assign(into, { [name]: value })
  else {
    const inner: unknown = Reflect.get(into, name)
    const next = is.object.accepts(inner) ? { ...(inner as object) } : {}
    Object.assign(into, { [name]: next })
    put(next, rest, value)
  }
}

/** The options for these settings that were typed. */
export const typedOptions = (typed: Readonly<Record<string, unknown>>, wanted: readonly string[]): string[] =>
  wanted
    .map(nameOf)
    .filter((name) => typed[camel(name)] !== undefined)
    .map((name) => `--${name}`)

/** How an option of the API was given on the command line, if it was. */
export function flagOf(option: string, typed: (name: string) => boolean): string | undefined {
  const section = option.split('.')[0]!
  const candidates = section in sections ? [option] : Object.keys(sections).map((name) => `${name}.${option}`)
  const known = candidates.filter((path) => ruleOf.has(path)).map(nameOf)
  const name = [...known, kebab(option)].find((flag) => typed(camel(flag)))
  return name && `--${name}`
}
