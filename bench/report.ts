/** Results as a table for people and as JSON for programs. */

import { type Bounds, type Measurement, verdict } from './measurements.ts'
import type { Compared } from './pairs.ts'

/** One line of `--json`. */
export interface Result {
  readonly name: string
  /** Against the peer: of a speed, times as fast; of a time or memory, part of it. */
  readonly ratio: number
  readonly value: number
  readonly unit: 'images/s' | 'ms' | 'GB' | 'GFLOP/s'
  readonly peer: string
  readonly peerValue?: number
  /** The pairs' lowest and highest ratio. */
  readonly range?: readonly [number, number]
  readonly bounds?: Bounds
  readonly verdict?: string
  readonly notes?: readonly string[]
}

const bounded = (of: Measurement['of'], ratio: number, bounds: Bounds | undefined): Partial<Result> =>
  bounds ? { bounds, verdict: verdict(of, ratio, bounds) } : {}

/** Of a measurement of speed or time. */
export function resultOf({ name, of, ours, peer }: Measurement, found: Compared, bounds: Bounds | undefined): Result {
  const [ratio, range]: [number, [number, number]] =
    of === 'speed'
      ? [1 / found.ratio, [1 / found.highest, 1 / found.lowest]]
      : [found.ratio, [found.lowest, found.highest]]
  const [unit, value] =
    of === 'speed'
      ? (['images/s', (seconds: number) => ours.batch / seconds] as const)
      : (['ms', (seconds: number) => 1000 * seconds] as const)
  return {
    name,
    ratio,
    value: value(found.seconds),
    unit,
    peer: peer.peer,
    peerValue: value(found.peerSeconds),
    range,
    ...bounded(of, ratio, bounds),
  }
}

/** Of a measurement of peak memory, in bytes. */
export function memoryResult(
  { name, peer }: Measurement,
  bytes: number,
  peerBytes: number,
  bounds: Bounds | undefined,
): Result {
  const ratio = bytes / peerBytes
  const [value, peerValue] = [bytes / 1e9, peerBytes / 1e9]
  return { name, ratio, value, unit: 'GB', peer: peer.peer, peerValue, ...bounded('memory', ratio, bounds) }
}

/** Of a machine that can do `most` operations a second. */
export function peakResult(name: string, ratio: number, most: number, bounds: Bounds | undefined): Result {
  const [value, unit, peer] = [(ratio * most) / 1e9, 'GFLOP/s', "the machine's peak"] as const
  return { name, ratio, value, unit, peer, peerValue: most / 1e9, ...bounded('speed', ratio, bounds) }
}

/** Of what has to fit into `bounds` GB. */
export function limitResult(name: string, bytes: number, bounds: Bounds, notes: readonly string[]): Result {
  const [value, [limit]] = [bytes / 1e9, bounds]
  const peer = `a limit of ${limit} GB`
  const found = verdict('memory', value, bounds)
  return { name, ratio: value / limit, value, unit: 'GB', peer, peerValue: limit, bounds, verdict: found, notes }
}

const figure = (value: number): string => value.toPrecision(3)

/** A row of the table. */
export function row({
  name,
  ratio,
  value,
  unit,
  peerValue,
  range,
  bounds,
  verdict: found,
  notes = [],
}: Result): string {
  const spread = range ? ` (${range.map(figure).join(' to ')})` : ''
  const against = peerValue === undefined ? '' : ` against ${figure(peerValue)}`
  const wanted = bounds ? `, floor ${bounds[0]}, goal ${bounds[1]}: ${found}` : ''
  const said = notes.length > 0 ? ` [${notes.join('; ')}]` : ''
  return `${name}: ${figure(ratio)}${spread}, ${figure(value)}${against} ${unit}${wanted}${said}`
}
