/**
 * Trains a small Glow on emoji and edits 16 attributes of emoji that it has not seen; docs/attributes.md shows what comes of it.
 *
 *     npm run example -- examples/emoji.ts --seconds 420
 *
 * runs/emoji is made anew. Ctrl-C ends the training after the step under way and goes on with the weights of that step, a second
 * Ctrl-C ends the program.
 */

import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

import {
  createGlow,
  type Dataset,
  type Direction,
  type GlowOptions,
  type Images,
  saveDirections,
  type TrainOptions,
  writePngGrid,
} from 'glowflow'

import { classifier } from './classifier.ts'
import { allEmoji, asDataset, attributes, contrast, type Emoji, genders, kinds, tones } from './emoji-data.ts'
import { image } from './images.ts'
import { showProgress } from './progress.ts'

const size = 32
const preset = {
  model: { imageSize: size, bits: 5, levels: 3, depth: 4, hidden: 64, scale: 'bounded', seed: 1 },
  train: {
    batchSize: 32,
    optimizer: { learningRate: 5e-3 },
    schedule: 'cosine',
    warmup: 100,
    ema: 0.99,
    augment: { flip: true },
    seed: 1,
  },
} as const satisfies { model: GlowOptions; train: TrainOptions }

/** Held-out emoji by code point: what lacks the attribute and can show it. */
const [wave, girl, santa] = ['1F44B', '1F467', '1F385']
const [judge, singer, tuxedo] = ['1F9D1-200D-2696-FE0F', '1F9D1-200D-1F3A4', '1F935']
const [heart, ball, book, star] = ['1FA76', '1F3BE', '1F4D8', '2B50']
const shown: Record<string, readonly string[]> = {
  ...Object.fromEntries(tones.map((name) => [name, [wave, girl, santa]])),
  ...Object.fromEntries(genders.map((name) => [name, [judge, singer, tuxedo]])),
  ...Object.fromEntries(kinds.map((name) => [name, [heart, ball, book]])),
  smileys: [star, ball, book],
  activities: [heart, star, book],
  objects: [heart, ball, star],
}
const amounts = [0, 0.5, 1, 1.5]

const { values: given } = parseArgs({ options: { seconds: { type: 'string', default: '420' } } })
const seconds = Number(given.seconds)

const folder = join('runs', 'emoji')
await rm(folder, { recursive: true, force: true })
await mkdir(folder, { recursive: true })

// All tones and genders of an emoji are on one side: what is edited has been seen in none of them.
const all = allEmoji()
const subjects = [...new Set(all.map(({ subject }) => subject))]
const kept = new Set(subjects.filter((_, index) => index % 8 === 1))
const training = all.filter(({ subject }) => !kept.has(subject))
const heldOut = all.filter(({ subject }) => kept.has(subject))
const list = (name: string): string => join(folder, `list_attr_${name.replace(' ', '_')}.csv`)
const train = await asDataset(training, list('training'), size)
const test = await asDataset(heldOut, list('held-out'), size)

await using model = await createGlow(preset.model)
console.log(`Glow of ${model.parameterCount} weights on ${model.device.label}, ${seconds} seconds, into ${folder}`)
console.log(`${train.length} emoji to train on, ${test.length} of ${kept.size} other subjects held out`)

const run = model.train(train, { ...preset.train, seconds, evaluate: { data: test, every: 1000 } })
process.once('SIGINT', () => void run.stop())
const progress = showProgress(seconds)
for await (const event of run) progress.tell(event)
progress.end()
const { step, reason } = await run.finished
const { bitsPerDim } = await model.evaluate(test)
console.log(`${reason} after ${step} steps: ${bitsPerDim.toFixed(3)} bits/dim held out`)
await model.save(join(folder, 'model.safetensors'))

const directions = await allDirections()
await saveDirections(join(folder, 'directions.safetensors'), directions)
await writePngGrid(join(folder, 'attributes.png'), await rows(), { columns: 3 * amounts.length })
await writePngGrid(join(folder, 'tones.png'), await toneRows(), { columns: 2 * (1 + tones.length) })
console.table(await measure())
console.log(`Pictures, directions and the model are in ${folder}`)

/** Of training images alone. The kinds share their data and so one pass. */
async function allDirections(): Promise<Record<string, Direction>> {
  const found: Record<string, Direction> = {}
  for (const only of [...tones.map((name) => [name]), ...genders.map((name) => [name]), kinds]) {
    const name = only.length === 1 ? only[0]! : 'kinds'
    // oxlint-disable-next-line no-await-in-loop
    const data = await asDataset(contrast(training, only[0]!), list(name), size)
    // oxlint-disable-next-line no-await-in-loop
    Object.assign(found, await model.directions(data, { only }))
  }
  return found
}

/** For each attribute a row: three emoji that lack it, each moved by every amount. */
async function rows(): Promise<Images> {
  const strips = await Promise.all(
    attributes.map(async (name) => model.shift(await pictures(shown[name]!), directions[name]!, { amounts })),
  )
  return joined(strips)
}

/** Two emoji a row, each in yellow and moved to every tone; below them what they look like in these tones. */
async function toneRows(): Promise<Images> {
  const codes = [wave, girl, '1F9D3', '1F442', santa, '1F64B']
  const each = codes.map(async (code) => {
    const yellow = await pictures([code])
    const moved = tones.map((name) => model.shift(yellow, directions[name]!, { amounts: [1.5] }))
    const real = ['1F3FB', '1F3FC', '1F3FD', '1F3FE', '1F3FF'].map((tone) => `${code}-${tone}`)
    return [joined([yellow, ...(await Promise.all(moved))]), await pictures([code, ...real])] as const
  })
  const strips = await Promise.all(each)
  const lines = [0, 2, 4].flatMap((at) => [0, 1].flatMap((real) => [strips[at]![real]!, strips[at + 1]![real]!]))
  return joined(lines)
}

async function pictures(codes: readonly string[]): Promise<Images> {
  const indices = codes.map((code) => heldOut.findIndex((one) => one.code === code))
  return plain(test, indices)
}

async function plain(data: Dataset, indices: readonly number[]): Promise<Images> {
  const { attributes: _, ...images } = await data.batch(indices)
  return images
}

function joined(parts: readonly Images[]): Images {
  return {
    ...parts[0]!,
    data: Buffer.concat(parts.map(({ data }) => data)),
    count: parts.reduce((sum, { count }) => sum + count, 0),
  }
}

/**
 * For each attribute, on held-out emoji that lack it: the log-odds of it that a logistic regression on pixels gives, which has seen
 * training emoji alone, at every amount. For tones also how far the mean colour of the skin is from that of the same emoji in this
 * tone, in percent of how far the yellow one is.
 */
async function measure(): Promise<Record<string, Record<string, string>>> {
  const table: Record<string, Record<string, string>> = {}
  for (const name of attributes) {
    // oxlint-disable-next-line no-await-in-loop
    const [seen, unseen] = [await sides(training, name), await sides(heldOut, name)]
    const logOdds = classifier(inverted(seen.without), inverted(seen.having))
    const [lacking, having] = [logOdds(inverted(unseen.without)), logOdds(inverted(unseen.having))]
    const right = [...lacking.map((odds) => odds < 0), ...having.map((odds) => odds > 0)]
    // oxlint-disable-next-line no-await-in-loop
    const moved = await model.shift(unseen.without, directions[name]!, { amounts })
    const odds = byAmount(logOdds(inverted(moved))).map((values) => mean(values).toFixed(1))
    table[name] = { right: percent(mean(right.map(Number))), ...named('log-odds', odds) }
    if (!tones.includes(name)) continue
    const distances = Array.from({ length: moved.count }, (_, index) => {
      const emoji = Math.floor(index / amounts.length)
      return skinDistance(image(moved, index), image(unseen.without, emoji), image(unseen.having, emoji))
    })
    const far = byAmount(distances).map(mean)
    const parts = far.map((value) => percent(value / far[0]!))
    Object.assign(table[name], named('skin', parts))
  }
  return table
}

/** White becomes 0, so that the background has no weight. */
function inverted(images: Images): Images {
  return { ...images, data: images.data.map((value) => 255 - value) }
}

/** Between the mean colours of `moved` and `toned`, over the pixels that tell `toned` from `yellow`: its skin. */
function skinDistance(moved: Uint8Array, yellow: Uint8Array, toned: Uint8Array): number {
  const difference = [0, 0, 0]
  let count = 0
  for (let at = 0; at < toned.length; at += 3) {
    const isSkin = [0, 1, 2].some((channel) => Math.abs(toned[at + channel]! - yellow[at + channel]!) > 16)
    if (!isSkin) continue
    count += 1
    for (const channel of [0, 1, 2]) difference[channel]! += moved[at + channel]! - toned[at + channel]!
  }
  return Math.hypot(...difference) / Math.max(1, count)
}

/** As many images without an attribute as with it; of a tone or gender those at one index are one emoji. */
async function sides(of: readonly Emoji[], name: string): Promise<{ without: Images; having: Images }> {
  const some = contrast(of, name)
  const having = some.filter(({ has }) => has.includes(name))
  const others = some.filter(({ has }) => !has.includes(name))
  const without = having.map((_, index) => others[Math.floor((index * others.length) / having.length)]!)
  const data = of === training ? train : test
  const read = (part: readonly Emoji[]): Promise<Images> => {
    const indices = part.map((one) => of.indexOf(one))
    return plain(data, indices)
  }
  return { without: await read(without), having: await read(having) }
}

function byAmount(values: readonly number[]): number[][] {
  return amounts.map((_, at) => values.filter((_value, index) => index % amounts.length === at))
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

function percent(value: number): string {
  return `${(100 * value).toFixed(0)}%`
}

function named(what: string, values: readonly string[]): Record<string, string> {
  return Object.fromEntries(values.map((value, at) => [`${what} ${amounts[at]}`, value]))
}
