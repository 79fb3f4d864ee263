import test from 'ava'

import { multiplications, trainingOperations } from '../bench/arithmetic.ts'
import { measurements, verdict } from '../bench/measurements.ts'
import { compared, median } from '../bench/pairs.ts'
import { limitResult, memoryResult, resultOf, row } from '../bench/report.ts'

test('a median is the middle, or between the two middles', (t) => {
  t.is(median([3, 1, 2]), 2)
  t.is(median([4, 1, 3, 2]), 2.5)
})

test('a ratio is the median of the pairs, not of all times', (t) => {
  // A machine that slows down by half in the second pair slows both.
  const { ratio, lowest, highest, seconds, peerSeconds } = compared([
    [1, 2],
    [2, 4],
    [1, 4],
  ])
  t.deepEqual([ratio, lowest, highest, seconds, peerSeconds], [0.5, 0.25, 0.5, 1, 4])
})

test('a speed has to be at least its floor, a time at most', (t) => {
  t.deepEqual(
    [1.1, 1.3, 1.6].map((figure) => verdict('speed', figure, [1.2, 1.5])),
    ['below', 'floor', 'goal'],
  )
  t.deepEqual(
    [0.9, 0.7, 0.4].map((figure) => verdict('time', figure, [0.8, 0.5])),
    ['below', 'floor', 'goal'],
  )
  t.is(verdict('speed', 1, undefined), '')
})

test('results say how many times as fast, or what part of the time or memory', (t) => {
  const [speed, time] = [measurements.find(({ of }) => of === 'speed')!, measurements.find(({ of }) => of === 'time')!]
  const found = compared([[0.5, 1]])
  const fast = resultOf(speed, found, [1.2, 1.5])
  t.like(fast, { ratio: 2, value: 2 * speed.ours.batch, unit: 'images/s', verdict: 'goal', range: [2, 2] })
  t.like(resultOf(time, found, undefined), { ratio: 0.5, value: 500, unit: 'ms', peerValue: 1000, bounds: undefined })
  t.like(memoryResult(time, 1e9, 4e9, [0.45, 0.35]), { ratio: 0.25, value: 1, unit: 'GB', verdict: 'goal' })
  t.like(limitResult('a step', 6e9, [8, 5], ['slow']), { ratio: 0.75, value: 6, verdict: 'floor', notes: ['slow'] })
  t.regex(row(fast), /^train .*: 2\.00 \(2\.00 to 2\.00\), .* images\/s, floor 1\.2, goal 1\.5: goal$/)
})

test('every measurement has its own name and compares equal work', (t) => {
  t.is(new Set(measurements.map(({ name }) => name)).size, measurements.length)
  for (const { ours, peer } of measurements)
    t.deepEqual([ours.task, ours.depth, ours.hidden, ours.batch], [peer.task, peer.depth, peer.hidden, peer.batch])
})

test('the large model has the multiplications of its layers', (t) => {
  // Each scale has a quarter of the pixels of the one before and twice its channels.
  const large = multiplications({ levels: 3, depth: 32, hidden: 512 })
  t.true(Math.abs(large / 4.06e9 - 1) < 0.02, String(large))
  t.is(trainingOperations({ levels: 3, depth: 32, hidden: 512 }), 6 * large)
})
