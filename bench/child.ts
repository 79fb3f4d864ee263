/** Implementations to compare, each in a process of its own that works when it is told to. */

import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

import type { DeviceName } from 'glowflow'

/** What an implementation is asked to do again and again. */
export interface Spec {
  readonly peer: 'glowflow' | 'normflows' | 'plain' | 'dressed' | 'onnxruntime'
  readonly task: 'train' | 'encode' | 'decode'
  readonly levels: number
  readonly depth: number
  readonly hidden: number
  readonly batch: number
  readonly precision: 'f32' | 'bf16x3' | 'bf16'
  readonly threads: number
  /** Raw bytes of images of three channels. */
  readonly images: string
  /** Their height and width. @default 32 */
  readonly size?: number
  readonly activations?: 'stored' | 'inputs' | 'constant'
  /** The model's files without their extension, where there are any. */
  readonly model?: string
  readonly device?: DeviceName
}

const script = (name: string): string => new URL(name, import.meta.url).pathname

/** A long-lived process: one line of JSON for each piece of work, and one back. */
export class Child {
  readonly notes: readonly string[]
  readonly #process: ChildProcess
  readonly #lines: AsyncIterator<string>
  /** The end of what it has said on stderr. */
  readonly #said: () => string

  private constructor(
    process: ChildProcess,
    lines: AsyncIterator<string>,
    said: () => string,
    notes: readonly string[],
  ) {
    this.#process = process
    this.#lines = lines
    this.#said = said
    this.notes = notes
  }

  /** Resolves when it is ready to work. */
  static async start(spec: Spec, python = 'python3'): Promise<Child> {
    const threads = String(spec.threads)
    const [command, args] =
      spec.peer === 'glowflow' || spec.peer === 'onnxruntime'
        ? [process.execPath, ['--import=@oxc-node/core/register', script(`${spec.peer}.ts`)]]
        : [python, [script('peers/serve.py')]]
    const child = spawn(command, [...args, JSON.stringify(spec)], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, GLOWFLOW_THREADS: threads, OMP_NUM_THREADS: threads, MKL_NUM_THREADS: threads },
    })
    let said = ''
    child.stderr.on('data', (text) => (said = `${said}${text}`.slice(-2000)))
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    const first = await lines.next()
    if (first.done) throw new Error(`${spec.peer} did not start:\n${said}`)
    return new Child(child, lines, () => said, JSON.parse(first.value).notes ?? [])
  }

  /** Seconds that so many pieces of work took. */
  async work(times: number): Promise<number> {
    this.#process.stdin!.write(`${JSON.stringify({ times })}\n`)
    const line = await this.#lines.next()
    if (line.done) throw new Error(`the process ended in the middle of its work:\n${this.#said()}`)
    return JSON.parse(line.value).seconds
  }

  /** Most memory that it has ever held, in bytes; nothing where the system does not say. */
  peakMemory(): number | undefined {
    const status = `/proc/${this.#process.pid}/status`
    if (!existsSync(status)) return undefined
    const kilobytes = /VmHWM:\s+(\d+) kB/.exec(readFileSync(status, 'utf8'))?.[1]
    return kilobytes === undefined ? undefined : 1024 * Number(kilobytes)
  }

  stop(): void {
    this.#process.kill()
  }
}

/** The other side, in TypeScript: says that it is ready, then does what each line asks. */
export async function serve(work: (times: number) => Promise<number>): Promise<void> {
  const answer = (reply: object): void => void process.stdout.write(`${JSON.stringify(reply)}\n`)
  answer({ ready: true })
  for await (const line of createInterface({ input: process.stdin }))
    answer({ seconds: await work(JSON.parse(line).times) })
}

/** Seconds of so many calls, one after the other. */
export async function timed(times: number, call: () => Promise<unknown>): Promise<number> {
  const start = performance.now()
  for (let time = 0; time < times; time++) await call()
  return (performance.now() - start) / 1000
}
