/** `npm run bench`: glowflow beside what people use today, in one run. */

import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { availableParallelism, cpus } from 'node:os'

import { Command, InvalidArgumentError } from '@commander-js/extra-typings'
import { type DeviceName, openDevice, type Precision } from 'glowflow'

import { measurePeak, type Peak, trainingOperations } from './arithmetic.ts'
import { Child, type Spec } from './child.ts'
import { type Measurement, measurements, type ProcessorClass } from './measurements.ts'
import { runPairs } from './pairs.ts'
import { environment, images, model, python } from './prepare.ts'
import { limitResult, memoryResult, peakResult, type Result, resultOf, row } from './report.ts'
import { sweep } from './sweep.ts'

const program = new Command('bench')
  .description('Measures glowflow; with --peers beside normflows, PyTorch and onnxruntime-node.')
  .option('--peers', 'beside the peers, of which the Python ones are installed into .bench (several GB)')
  .option('--json', 'one JSON object a line instead of a table')
  .option('--device <name>', 'of glowflow; peers stay on the CPU', (name) => name as DeviceName, 'cpu')
  .option('--only <pattern>', 'measurements whose name the regular expression matches')
  .option('--pairs <n>', 'turns of each of the two', count, 5)
  .option('--seconds <n>', 'length of a turn', aboveZero, 3)
  .option('--out <file>', 'writes the JSON lines there as well')
  .option(
    '--sweep <folder>',
    'instead, what glowflow costs against K, width, image size, batch and threads: plots there',
  )
  .parse()
const options = program.opts()
const say = (line: string): void => void process.stderr.write(`${line}\n`)

const { info, precisions } = await openDevice(options.device).then((device) => ({
  info: device.label,
  precisions: device.precisions,
}))
const processor: ProcessorClass = precisions.includes('bf16x3') ? 'amx' : 'other'
const threads = availableParallelism()
say(`${cpus()[0]!.model}, ${threads} threads, ${info}: ${precisions.join(', ')}`)

const matches = new RegExp(options.only ?? '')
const wanted = measurements.filter(({ name }) => matches.test(name))
const lacking = new Set(wanted.map(({ ours }) => ours.precision).filter((precision) => !precisions.includes(precision)))
for (const precision of lacking) say(`skipped: this processor lacks ${precision}`)

const common = { threads, images: await images() }
if (options.sweep !== undefined) {
  await mkdir(options.sweep, { recursive: true })
  const { pairs: turns, seconds, device } = options
  const limits = { only: matches, turns, seconds }
  await sweep(options.sweep, { ...common, device, precisions }, limits, (cost) => console.log(JSON.stringify(cost)))
  process.exit()
}

const missing = options.peers ? environment(say) : undefined
if (missing) say(`skipped: ${missing}`)
const lines: Result[] = []
const largeName = 'memory of a step of 256x256, K=32, L=6, additive, 5 bits, batch 1'
let peak: Peak | undefined

for (const measurement of wanted.filter(({ ours }) => can(ours.precision))) {
  const inPython = measurement.peer.peer !== 'onnxruntime'
  if (missing && inPython) continue
  try {
    const result = await (options.peers ? against(measurement) : alone(measurement))
    tell(result)
    if (measurement.ofPeak) tell(ofPeak(measurement, result))
  } catch (error) {
    say(`failed: ${measurement.name}: ${(error as Error).message}`)
    process.exitCode = 1
  }
}
if (matches.test(largeName) && options.device === 'cpu') tell(largeStep())
if (options.out) writeFileSync(options.out, lines.map((line) => `${JSON.stringify(line)}\n`).join(''))

function aboveZero(text: string): number {
  const number = Number(text)
  if (Number.isFinite(number) && number > 0) return number
  throw new InvalidArgumentError('Expected a number above 0.')
}

function count(text: string): number {
  const number = aboveZero(text)
  if (Number.isInteger(number)) return number
  throw new InvalidArgumentError('Expected a whole number.')
}

/** In a process of its own, for the sake of its memory. */
function largeStep(): Result {
  const large = new URL('large.ts', import.meta.url).pathname
  const printed = execFileSync(process.execPath, ['--import=@oxc-node/core/register', large], { encoding: 'utf8' })
  const { parameters, seconds, bytes } = JSON.parse(printed)
  return limitResult(largeName, bytes, [8, 5], [`${parameters} parameters`, `${seconds.toFixed(1)} s a step`])
}

function can(precision: Precision): boolean {
  return precisions.includes(precision)
}

function tell(result: Result): void {
  lines.push(result)
  process.stdout.write(`${options.json ? JSON.stringify(result) : row(result)}\n`)
}

async function start(spec: Measurement['ours']): Promise<Child> {
  const placed = spec.model ? { model: await model(spec.model, spec.depth, spec.hidden) } : {}
  const whole: Spec = { ...spec, ...placed, ...common, ...(spec.peer === 'glowflow' && { device: options.device }) }
  return Child.start(whole, python)
}

/** What part of the machine's own peak a speed comes to. */
function ofPeak({ name, ours, ofPeak: bounds }: Measurement, { value }: Result): Result {
  peak ??= measurePeak(threads)
  const most = ours.precision === 'f32' ? peak.f32 : peak.bf16!
  return peakResult(
    `${name.split(' against')[0]} of the peak`,
    (value * trainingOperations(ours)) / most,
    most,
    bounds?.[processor],
  )
}

/** Both at a time in memory, one at a time at work. */
async function against(measurement: Measurement): Promise<Result> {
  const bounds = measurement.bounds[processor]
  const [ours, theirs] = [await start(measurement.ours), await start(measurement.peer)]
  try {
    const found = await runPairs(ours, theirs, options.pairs, options.seconds)
    const [bytes, peerBytes] = [ours.peakMemory() ?? Number.NaN, theirs.peakMemory() ?? Number.NaN]
    const memory = `peak memory ${(bytes / 1e9).toFixed(2)} against ${(peerBytes / 1e9).toFixed(2)} GB`
    const notes = [memory, ...theirs.notes]
    if (measurement.of !== 'memory') return { ...resultOf(measurement, found, bounds), notes }
    const speed = `speed ${(1 / found.ratio).toFixed(2)} of the peer's`
    return { ...memoryResult(measurement, bytes, peerBytes, bounds), notes: [speed, ...theirs.notes] }
  } finally {
    ours.stop()
    theirs.stop()
  }
}

/** Without peers: what glowflow takes, as if it were its own peer. */
async function alone(measurement: Measurement): Promise<Result> {
  const ours = await start(measurement.ours)
  try {
    const found = await runPairs(ours, ours, options.pairs, options.seconds)
    return resultOf(
      { ...measurement, name: `${measurement.name.split(' against')[0]} alone`, peer: measurement.ours },
      found,
      undefined,
    )
  } finally {
    ours.stop()
  }
}
