/** Checks of options: every problem is found and named at once, an unknown option with the known one that is closest to it. */

import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { inspect, types } from 'node:util'

import { closest } from 'fastest-levenshtein'

import { optionError, type OptionProblem } from './error.js'
import { object, required, type Rule, type Rules } from './rules.js'

/** A path or a `file:` URL. */
export type PathLike = string | URL

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
