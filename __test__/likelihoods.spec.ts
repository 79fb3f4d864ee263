import test from 'ava'

import { mean as meanOf } from '../dist/cli/statistics.js'
import { draw, entropy, laws, score, standardized, standardizing, trained } from '../examples/known-entropy.ts'

test('the entropies and closed forms are those that are known', (t) => {
  t.is(entropy(laws.uniform8, 4), 8)
  t.is(entropy(laws.uniform5, 4), 5)
  // 0.2 log2(10) + 0.8 log2(2.5).
  t.true(Math.abs(entropy(laws.bell, 4) - 1.721_928_1) < 1e-7)
  // 3 for the first of 4, then 0.9219 (0.8, 0.1, 0.1) from six levels and 0.4690 (0.9, 0.1) from two.
  t.true(Math.abs(entropy(laws.rows, 4) - (3 + 3 * (0.75 * 0.921_928_1 + 0.25 * 0.468_995_6)) / 4) < 1e-7)
  const { truth } = draw(laws.rows, 4000, 4, 1)
  t.true(Math.abs(meanOf([...truth]) - entropy(laws.rows, 4)) < 0.01)
  // A uniform density under the normal one of its variance costs log2(2 pi e / 12) / 2.
  for (const law of [laws.uniform8, laws.uniform5])
    t.true(Math.abs(standardized(law).bound - law.bits - 0.254_614_3) < 1e-7, law.name)
  for (const law of Object.values(laws)) {
    const { bound, exact } = standardized(law)
    t.true(entropy(law, 4) < exact && exact < bound, law.name)
  }
})

test('a model that standardizes pixels has the score of the closed form', async (t) => {
  for (const [law, side] of [
    [laws.uniform8, 16],
    [laws.uniform5, 16],
    [laws.bell, 8],
    [laws.peaks, 8],
  ] as const) {
    // oxlint-disable-next-line no-await-in-loop
    await using model = await standardizing(law, side)
    // oxlint-disable-next-line no-await-in-loop
    const { excess, standardError } = await score(model, draw(law, 2000, side, 4), 1)
    const error = excess - (standardized(law).bound - entropy(law, side))
    // The means and deviations that it has are those of 256 images.
    t.true(Math.abs(error) < 4 * standardError + 5e-4, `${law.name}: ${error} ± ${standardError}`)
    t.true(standardError < 4e-3, law.name)
  }
})

test('more draws come from the bound down to the probability itself', async (t) => {
  const law = laws.bell
  const { bound, exact } = standardized(law)
  await using model = await standardizing(law, 4)
  const sample = draw(law, 2000, 4, 4)
  const scores = await Promise.all([1, 10, 100, 1000].map((draws) => score(model, sample, draws)))
  for (const [at, { excess, standardError }] of scores.entries()) {
    t.true(excess > exact - entropy(law, 4) - 4 * standardError, `${at}: ${excess}`)
    t.true(excess < bound - entropy(law, 4) + 4 * standardError, `${at}: ${excess}`)
    const before = scores[at - 1]
    if (before) t.true(excess < before.excess + 2e-4, `${at}: ${excess} after ${before.excess}`)
  }
  const [first, , , last] = scores
  t.true(Math.abs(last!.excess - (exact - entropy(law, 4))) < 4 * last!.standardError + 5e-4, `${last!.excess}`)
  // One draw is far from it.
  t.true(first!.excess - last!.excess > 0.04)
})

test('a trained flow learns what pixels have in common, and does not beat the entropy', async (t) => {
  const law = laws.rows
  await using model = await trained(law, 4, 600)
  const sample = draw(law, 2000, 4, 4)
  const scores = await Promise.all([1, 10, 100].map((draws) => score(model, sample, draws)))
  for (const [at, { excess, standardError }] of scores.entries()) {
    t.true(excess > -3 * standardError, `${at}: ${excess} ± ${standardError}`)
    if (at > 0) t.true(excess < scores[at - 1]!.excess, `${at}: ${excess}`)
  }
  // What independent pixels would cost is far above.
  const independent = standardized(law).exact - entropy(law, 4)
  t.true(scores[0]!.excess < 0.6 * independent, `${scores[0]!.excess} of ${independent}`)
})

test('a temperature scales deviations where the latents are pixels up to mean and deviation', async (t) => {
  const law = laws.uniform8
  await using model = await standardizing(law, 16)
  for (const temperature of [0.25, 0.5]) {
    // oxlint-disable-next-line no-await-in-loop
    const { data } = await model.sample({ count: 200, temperature, seed: 1 })
    const mean = data.reduce((sum, value) => sum + value, 0) / data.length
    const deviation = Math.sqrt(data.reduce((sum, value) => sum + (value - mean) ** 2, 0) / data.length)
    const expected = (temperature * 256) / Math.sqrt(12)
    t.true(Math.abs(deviation / expected - 1) < 0.01, `${deviation} is not ${expected}`)
    t.true(Math.abs(mean - 127.5) < 1, `${mean}`)
  }
})
