/** What options may be. Imported as `is`. */

/** A JSON schema, draft 2020-12. */
export type Schema = Readonly<Record<string, unknown>>

/** What an option may be. */
export interface Rule {
  /** Ends the sentence *Expected …*. */
  readonly expected: string
  readonly accepts: (value: unknown) => boolean
  /** What `accepts` takes of the values that JSON has; none where JSON has no such value. */
  readonly schema?: Schema
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
  schema: { type: 'integer', minimum: least, maximum: most },
})
const side = integer(1)
export const size: Rule = {
  expected: 'an integer of at least 1 or [height, width]',
  accepts: (value) => side.accepts(value) || (Array.isArray(value) && value.length === 2 && value.every(side.accepts)),
  schema: { anyOf: [side.schema, { type: 'array', items: side.schema, minItems: 2, maxItems: 2 }] },
}
export const seed: Rule = integer(0, Number.MAX_SAFE_INTEGER)
export const positive: Rule = {
  expected: 'a number above 0',
  accepts: (value) => Number.isFinite(value) && (value as number) > 0,
  schema: { type: 'number', exclusiveMinimum: 0 },
}
export const atLeastZero: Rule = {
  expected: 'a number of at least 0',
  accepts: (value) => Number.isFinite(value) && (value as number) >= 0,
  schema: { type: 'number', minimum: 0 },
}
export const boolean: Rule = {
  expected: 'true or false',
  accepts: (value) => typeof value === 'boolean',
  schema: { type: 'boolean' },
}
export const finite: Rule = { expected: 'a finite number', accepts: Number.isFinite, schema: { type: 'number' } }
export const oneOf = (...names: readonly string[]): Rule => ({
  expected: names.map((name) => `'${name}'`).join(' or '),
  accepts: (value) => names.includes(value as string),
  schema: { enum: names },
})
export const text: Rule = { expected: 'a string', accepts: (value) => typeof value === 'string' }
export const name: Rule = {
  expected: 'a text that is not empty',
  accepts: (value) => typeof value === 'string' && value !== '',
}
export const callable: Rule = { expected: 'a function', accepts: (value) => typeof value === 'function' }
export const path: Rule = {
  expected: 'a path or a file: URL',
  accepts: (value) =>
    typeof value === 'string'
      ? value !== '' && !value.includes('\0')
      : value instanceof URL && value.protocol === 'file:',
  schema: { type: 'string', pattern: String.raw`^[^\0]+$` },
}
const byte = integer(0, 255)
export const color: Rule = {
  expected: '[red, green, blue], integers from 0 to 255',
  accepts: (value) => Array.isArray(value) && value.length === 3 && value.every(byte.accepts),
  schema: { type: 'array', items: byte.schema, minItems: 3, maxItems: 3 },
}
export const abortSignal: Rule = { expected: 'an AbortSignal', accepts: (value) => value instanceof AbortSignal }
export const list = (what: string, accepts: Rule['accepts']): Rule => ({
  expected: what,
  accepts: (value) => Array.isArray(value) && value.every(accepts),
})
export const object: Rule = {
  expected: 'an object',
  accepts: (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
}
export const nested = <T>(rules: Rules<T>): Rule => ({ ...object, rules: rules as Rules })
