/** The command line in processes of its own. */

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import type { Images } from 'glowflow'

import { slopes } from './helpers.js'

const bin = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url))

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}
export interface Started {
  readonly child: ChildProcessWithoutNullStreams
  readonly ended: Promise<Ended>
  /** Resolves once the output, of either kind, has these words. */
  readonly says: (words: RegExp) => Promise<void>
}

export function start(args: readonly string[], cwd?: string, env: NodeJS.ProcessEnv = {}): Started {
  const child = spawn(process.execPath, [bin, ...args], { cwd, env: { ...process.env, ...env } })
  const output = { stdout: '', stderr: '' }
  for (const stream of ['stdout', 'stderr'] as const)
    child[stream].setEncoding('utf8').on('data', (text: string) => (output[stream] += text))
  const ended = new Promise<Ended>((resolve) => child.on('close', (code) => resolve({ code, ...output })))
  const says = (words: RegExp): Promise<void> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        if (words.test(output.stdout) || words.test(output.stderr)) resolve()
      }
      child.stdout.on('data', look)
      child.stderr.on('data', look)
      child.on('close', () => reject(new Error(`Ended without ${words}: ${output.stdout}${output.stderr}`)))
      look()
    })
  return { child, ended, says }
}

export const glowflow = (args: readonly string[], cwd?: string, env?: NodeJS.ProcessEnv): Promise<Ended> =>
  start(args, cwd, env).ended

/** Images as an IDX file. */
export async function writeIdx(file: string, { data, count, height, width }: Images): Promise<void> {
  const header = Buffer.from([0, 0, 8, 3, 0, 0, count >> 8, count & 255, 0, 0, 0, height, 0, 0, 0, width])
  await writeFile(file, Buffer.concat([header, data]))
}

/** The training images and labels of a folder as MNIST's is, 8x8 and of two classes. */
export async function idxFolder(folder: string, count: number): Promise<string> {
  await writeIdx(join(folder, 'train-images-idx3-ubyte'), slopes(count))
  const classes = Array.from({ length: count }, (_, image) => image % 2)
  const labels = Buffer.from([0, 0, 8, 1, 0, 0, count >> 8, count & 255, ...classes])
  await writeFile(join(folder, 'train-labels-idx1-ubyte'), labels)
  return folder
}
