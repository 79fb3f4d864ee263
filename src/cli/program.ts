/** The command line: all commands, and what is said when one fails. */

import { createRequire } from 'node:module'

import { Command, CommanderError, Help } from '@commander-js/extra-typings'

import { last, lastGroup } from './command.js'
import { compareCommand } from './compare.js'
import { decodeCommand } from './decode.js'
import { directionCommand } from './direction.js'
import { encodeCommand } from './encode.js'
import { evalCommand } from './eval.js'
import { exportCommand } from './export.js'
import { exitCode, toFailure } from './failure.js'
import { figure3Command } from './figure3.js'
import { flagOf } from './flags.js'
import { importCommand } from './import.js'
import { infoCommand } from './info.js'
import { interpolateCommand } from './interpolate.js'
import { sampleCommand } from './sample.js'
import { shiftCommand } from './shift.js'
import { trainCommand } from './train.js'
import { verifyCommand } from './verify.js'

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string }

export function createProgram(): Command {
  const program = new Command('glowflow')
    .description(
      'Invertible generative models of images: train them, draw from them, encode, decode, edit and score images.',
    )
    .version(version)
    .exitOverride()
    // What failed is said in one place, below.
    .configureOutput({ outputError: () => {} })
    .configureHelp({
      groupItems(all, visible, groupOf) {
        const isLast = (item: (typeof all)[number]): boolean => groupOf(item) === lastGroup
        const ordered = [...all.filter((item) => !isLast(item)), ...all.filter(isLast)]
        return Help.prototype.groupItems.call(this, ordered as [], visible as [], groupOf as never) as never
      },
    })
    .addHelpText(
      'after',
      `
Examples:
  $ glowflow train --data photos --size 64 --bits 5 --seconds 3600 --out runs/photos
  $ glowflow sample --model runs/photos --out grid.png
  $ glowflow <command> --help

Exit codes: 0 done, ${exitCode.failure} failed, ${exitCode.usage} not understood, ${exitCode.interrupted} Ctrl-C pressed twice.`,
    )
  const commands = [
    trainCommand(),
    sampleCommand(),
    encodeCommand(),
    decodeCommand(),
    interpolateCommand(),
    directionCommand(),
    shiftCommand(),
    evalCommand(),
    verifyCommand(),
    exportCommand(),
    importCommand(),
    infoCommand(),
    figure3Command(),
    compareCommand(),
  ]
  for (const command of commands)
    program.addCommand(
      (command as unknown as Command).copyInheritedSettings(program).addHelpOption(last('-h, --help', 'print this')),
    )
  return program
}

/** Runs one command line to its end; the exit code is left in `process.exitCode`. */
export async function main(args: readonly string[]): Promise<void> {
  const program = createProgram()
  let current: Command = program
  program.hook('preAction', (_, action) => void (current = action as unknown as Command))
  try {
    await program.parseAsync(args, { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError && (error.exitCode === 0 || error.code === 'commander.help')) {
      // Help or the version was asked for, and has been shown; or no command was given.
      process.exitCode = error.exitCode === 0 ? 0 : exitCode.usage
      return
    }
    const typed = (name: string): boolean => current.getOptionValueSource(name as never) === 'cli'
    const { exitCode: code, ...failure } = toFailure(error, (option) => flagOf(option, typed))
    process.stderr.write(
      `${current === program ? 'glowflow' : `glowflow ${current.name()}`}: ${failure.message} (${failure.code})\n`,
    )
    if (args.includes('--debug') || process.env['GLOWFLOW_DEBUG']) console.error(error)
    if (args.includes('--json')) process.stdout.write(`${JSON.stringify({ error: failure })}\n`)
    process.exitCode = code
  }
}
