/** What people and programs are told when a command fails, and with which exit code it ends. */

import { getSystemErrorMap } from 'node:util'

import { CommanderError } from '@commander-js/extra-typings'

import { GlowError, type OptionProblem } from '../index.js'

/** 0 is success, an interrupted training run that wrote its checkpoint included. */
export const exitCode = { failure: 1, usage: 2, interrupted: 130 } as const

/** A failure that this program finds, not the engine. */
export class CliError extends Error {
  readonly code: string
  readonly exitCode: number

  constructor(message: string, code = 'ERR_CLI_FAILED', exit: number = exitCode.failure) {
    super(message)
    this.code = code
    this.exitCode = exit
  }
}

/** What was typed, or written in a config file, cannot be used. */
export const usageError = (message: string): CliError => new CliError(message, 'ERR_CLI_USAGE', exitCode.usage)

/** A file that does not hold what it should. */
export const fileError = (path: string, reason: string): CliError =>
  new CliError(`${path} cannot be used: ${reason}`, 'ERR_CLI_FILE')

export interface Failure {
  readonly code: string
  /** One sentence, but where several options are wrong: then one for each. */
  readonly message: string
  readonly details?: Readonly<Record<string, unknown>>
  readonly exitCode: number
}

/** `flagOf`: how an option of the API was given on the command line, if it was. */
export function toFailure(error: unknown, flagOf: (option: string) => string | undefined): Failure {
  if (GlowError.isInstance(error)) return glowFailure(error, flagOf)
  if (error instanceof CliError) return { code: error.code, message: error.message, exitCode: error.exitCode }
  if (error instanceof CommanderError) {
    const message = error.message.replace(/^error: /, '').replace(/\s*\n\s*/g, ' ')
    return { code: 'ERR_CLI_USAGE', message, exitCode: exitCode.usage }
  }
  const { code, path, errno, message } = error as NodeJS.ErrnoException
  if (code === undefined || errno === undefined)
    return {
      code: 'ERR_CLI_INTERNAL',
      message: `Internal error, please report it: ${message}`,
      exitCode: exitCode.failure,
    }
  const [, reason] = getSystemErrorMap().get(errno) ?? [code, message]
  return { code, message: path === undefined ? reason : `${path}: ${reason}`, exitCode: exitCode.failure }
}

function glowFailure({ code, message, details }: GlowError, flagOf: (option: string) => string | undefined): Failure {
  if (code !== 'ERR_GLOW_OPTION') return { code, message, details, exitCode: exitCode.failure }
  const problems = (details['problems'] ?? []) as OptionProblem[]
  const sentences = problems.map((problem) => {
    const flag = flagOf(problem.option)
    // An option of the command line that the API does not know here is one of another kind of model.
    if (flag && problem.message.startsWith('Unknown option')) return `Expected no ${flag} for this kind of model`
    return flag ? `Expected ${problem.expected} for ${flag} but received ${problem.received}` : problem.message
  })
  return { code, message: sentences.join('. ') || message, details, exitCode: exitCode.usage }
}
