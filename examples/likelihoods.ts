/**
 * Scores images whose entropy is known, with models whose score is known or that must not beat it, and prints the table of
 * docs/likelihoods.md. `npm run example -- examples/likelihoods.ts`
 */

import type { FlowModel } from 'glowflow'

import { draw, entropy, type Law, laws, score, standardized, standardizing, trained } from './known-entropy.ts'

console.log('| data | entropy | model | draws | must be over it by | is over it by |')
console.log('| --- | ---: | --- | ---: | ---: | ---: |')

for (const law of [laws.uniform8, laws.uniform5]) {
  await using model = await standardizing(law, 16)
  await row(law, 'standardizing', model, 16, 1, digits(standardized(law).bound - entropy(law, 16)))
}
{
  const law = laws.bell
  await using model = await standardizing(law, 4)
  const [bound, exact] = Object.values(standardized(law)).map((bits) => digits(bits - entropy(law, 4)))
  await row(law, 'standardizing', model, 4, 1, bound!)
  for (const draws of [10, 100]) await row(law, 'standardizing', model, 4, draws, `${exact} to ${bound}`)
  await row(law, 'standardizing', model, 4, 1000, exact!)
}
for (const law of [laws.bell, laws.peaks, laws.rows]) {
  const { bound } = standardized(law)
  await using model = await trained(law, 4, 2000)
  for (const draws of [1, 10, 100])
    await row(law, 'trained', model, 4, draws, `0 to ${digits(bound - entropy(law, 4))}`)
}

async function row(
  law: Law,
  kind: string,
  model: FlowModel,
  side: number,
  draws: number,
  expected: string,
): Promise<void> {
  const { excess, standardError } = await score(model, draw(law, 4000, side, 4), draws)
  const found = `${digits(excess)} ± ${digits(standardError)}`
  console.log(`| ${[law.name, digits(entropy(law, side)), kind, `${draws}`, expected, found].join(' | ')} |`)
}

function digits(bits: number): string {
  return bits.toFixed(4)
}
