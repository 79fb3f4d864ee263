/** Checks of options: every problem is found and named at once, an unknown option with the known one that is closest to it. */

import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { inspect, types } from 'node:util'

import { closest } from 'fastest-levenshtein'

import { optionError, type OptionProblem } from './error.js'

/** A path or a `file:` URL. */
export type PathLike = string | URL

/** What an option may be. */
export interface Rule {
  /** Ends the sentence *Expected …*. */
  readonly expected: string
  readonly accepts: (value: unknown) => boolean
  readonly required?: boolean
  /** Of an option that is itself a set of options. */
  readonly rules?: Rules
}
/** A rule for every option of `T`. */
export type Rules<T = Record<string, unknown>> = { readonly [Option in keyof Required<T>]: Rule }

export const required = (rule: Rule): Rule => ({ ...rule, required: true })

/** The largest count that crosses into the engine as it is. */
const MOST = 2 ** 32 - 1

export const integer = (least: number, most = MOST): Rule => ({
  expected: most === MOST ? `an integer of at least ${least}` : `an integer from ${least} to ${most}`,
  accepts: (value) => Number.isInteger(value) && (value as number) >= least && (value as number) <= most,
})
export const seed: Rule = integer(0, Number.MAX_SAFE_INTEGER)
export const positive: Rule = {
  expected: 'a number above 0',
  accepts: (value) => Number.isFinite(value) && (value as number) > 0,
}
export const atLeastZero: Rule = {
  expected: 'a number of at least 0',
  accepts: (value) => Number.isFinite(value) && (value as number) >= 0,
}
export const boolean: Rule = { expected: 'true or false', accepts: (value) => typeof value === 'boolean' }
export const oneOf = (...names: readonly string[]): Rule => ({
  expected: names.map((name) => `'${name}'`).join(' or '),
  accepts: (value) => names.includes(value as string),
})
export const path: Rule = {
  expected: 'a path or a file: URL',
  accepts: (value) =>
    typeof value === 'string'
      ? value !== '' && !value.includes('\0')
      : value instanceof URL && value.protocol === 'file:',
}
export const color: Rule = {
  expected: '[red, green, blue], integers from 0 to 255',
  accepts: (value) => Array.isArray(value) && value.length === 3 && value.every(integer(0, 255).accepts),
}
export const abortSignal: Rule = { expected: 'an AbortSignal', accepts: (value) => value instanceof AbortSignal }
export const list = (what: string, accepts: Rule['accepts']): Rule => ({
  expected: what,
  accepts: (value) => Array.isArray(value) && value.every(accepts),
})
export const object: Rule = { expected: 'an object', accepts: (value) => typeof value === 'object' && value !== null }
export const nested = <T>(rules: Rules<T>): Rule => ({ ...object, rules: rules as Rules })

/**
 * Throws one error that names every problem of `options`. `engine` finds those that only the engine knows of, such as a
 * size that does not fit another option; it is asked about the options that have no problem yet.
 */
export function check<T extends object>(
  options: T,
  rules: Rules<T>,
  engine: (usable: T) => readonly OptionProblem[] = () => [],
): void {
  const found = problems(options, rules as Rules, '')
  const names = found.map(({ option }) => option.split('.')[0])
  const usable = object.accepts(options)
    ? Object.fromEntries(Object.entries(options).filter(([name]) => !names.includes(name)))
    : {}
  const [first, ...rest] = [...found, ...engine(usable as T)]
  if (first) throw optionError([first, ...rest])
}

/** One value that is not part of a set of options. */
export function checkOne(option: string, value: unknown, rule: Rule): void {
  check({ [option]: value }, { [option]: required(rule) })
}

function problems(options: unknown, rules: Rules, prefix: string): OptionProblem[] {
  if (!object.accepts(options)) return [wrong('options', object.expected, options)]
  const known = Object.keys(rules)
  const unknown = Object.keys(options as object).filter((option) => !known.includes(option))
  return [
    ...unknown.map((option) => strange(prefix, option, known, Reflect.get(options as object, option))),
    ...Object.entries(rules).flatMap(([option, rule]) => {
      const value: unknown = Reflect.get(options as object, option)
      if (value === undefined) return rule.required ? [wrong(prefix + option, rule.expected, value)] : []
      if (!rule.accepts(value)) return [wrong(prefix + option, rule.expected, value)]
      return rule.rules ? problems(value, rule.rules, `${prefix}${option}.`) : []
    }),
  ]
}

function wrong(option: string, expected: string, value: unknown): OptionProblem {
  const received = show(value)
  return { option, expected, received, message: `Expected ${expected} for ${option} but received ${received}` }
}

function strange(prefix: string, option: string, known: readonly string[], value: unknown): OptionProblem {
  const nearest = prefix + closest(option, known)
  const message = `Unknown option ${prefix}${option}, the closest known one is ${nearest}`
  return { option: prefix + option, expected: nearest, received: show(value), message }
}

/** A value as short text. */
export function show(value: unknown): string {
  if (types.isTypedArray(value)) return `a ${value.constructor.name} of ${value.length}`
  return inspect(value, { depth: 0, maxArrayLength: 8, maxStringLength: 80, breakLength: Infinity })
}

/** An absolute path: the engine must not depend on a working directory that may change meanwhile. */
export function toPath(value: PathLike): string {
  return resolve(typeof value === 'string' ? value : fileURLToPath(value))
}
