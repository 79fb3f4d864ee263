/** What every command has: help with examples, `--json`, `--debug`, one result. */

import { Command, Option } from '@commander-js/extra-typings'

/** What a command found out: for programs, and for people. */
export interface Result {
  /** Printed whole, as one line, with `--json`. */
  readonly json: object
  readonly text: string
  /** 0 where it is left out. */
  readonly exitCode?: number
}

/** The last group of every help text. */
export const lastGroup = 'Other:'
export const last = <const Flags extends string>(flags: Flags, about: string) =>
  new Option(flags, about).helpGroup(lastGroup)

/** A command with the options that all have. `usage` shows those it needs; each example is a line to type and what it does. */
export function command(
  name: string,
  usage: string,
  about: string,
  examples: readonly (readonly [line: string, does: string])[],
) {
  const lines = examples.map(([line, does]) => `  # ${does}\n  $ glowflow ${line}`)
  return new Command(name)
    .usage(usage)
    .description(about)
    .addOption(last('--json', 'print one JSON on stdout, and nothing else there'))
    .addOption(last('--debug', 'print stack traces; GLOWFLOW_DEBUG=1 does it, too'))
    .addHelpText('after', `\nExamples:\n${lines.join('\n')}`)
}

/** A line for people that is no result, so it goes to stderr. */
export function note(line: string): void {
  process.stderr.write(`${line}\n`)
}

/** Prints a result as it was asked for. */
export function show({ json, text, exitCode = 0 }: Result, asJson: boolean | undefined): void {
  process.stdout.write(`${asJson ? JSON.stringify(json) : text}\n`)
  process.exitCode = exitCode
}

/** Columns as wide as their widest cell; the first to the left, the others to the right. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  const line = (row: readonly string[]): string =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join('  ')
  return rows.map(line).join('\n')
}

/** A number as it was typed. Text stays text, so that the API refuses it with its own sentence. */
export function number(text: string): number {
  const value = Number(text)
  return text.trim() === '' || Number.isNaN(value) ? (text as unknown as number) : value
}

/** Numbers with commas between. */
export const numbers = (text: string): number[] => text.split(',').map(number)
