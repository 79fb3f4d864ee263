/** Emoji from the npm package emoji-datasource-twitter, as pictures with 16 attributes in the layout of CelebA. */

import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

import { celebA, type Dataset } from 'glowflow'

const table = createRequire(import.meta.url).resolve('emoji-datasource-twitter')
const pictures = join(dirname(table), 'img', 'twitter', '64')

const toneOf = {
  '1F3FB': 'light skin',
  '1F3FC': 'medium-light skin',
  '1F3FD': 'medium skin',
  '1F3FE': 'medium-dark skin',
  '1F3FF': 'dark skin',
}
const kindOf = {
  'People & Body': 'people',
  'Smileys & Emotion': 'smileys',
  'Animals & Nature': 'animals',
  'Food & Drink': 'food',
  'Travel & Places': 'travel',
  Activities: 'activities',
  Objects: 'objects',
  Symbols: 'symbols',
  Flags: 'flags',
}
export const tones: readonly string[] = Object.values(toneOf)
export const genders: readonly string[] = ['woman', 'man']
export const kinds: readonly string[] = Object.values(kindOf)
export const attributes: readonly string[] = [...tones, ...genders, ...kinds]

export interface Emoji {
  /** Code points, such as `1F44B-1F3FB`. */
  readonly code: string
  readonly file: string
  /** The same for all tones and genders of an emoji. */
  readonly subject: string
  /** Of {@link attributes}. */
  readonly has: readonly string[]
}

interface Entry {
  unified: string
  image: string
  category: string
  sort_order: number
  skin_variations?: Record<string, { unified: string; image: string }>
}

/** Every emoji, in the order of emoji keyboards, each followed by its tones. Those of two tones at once are left out. */
export function allEmoji(): Emoji[] {
  const entries: Entry[] = JSON.parse(readFileSync(table, 'utf8'))
  // The five skin tones alone, as squares, have no category of the nine.
  const listed = entries.filter((entry): entry is Entry & { category: keyof typeof kindOf } => entry.category in kindOf)
  return listed
    .toSorted((a, b) => a.sort_order - b.sort_order)
    .flatMap(({ unified, image, category, skin_variations: variations = {} }) => {
      const subject = subjectOf(unified)
      const has = [kindOf[category], ...genderOf(unified)]
      const toned = Object.entries(toneOf).flatMap(([modifier, tone]) => {
        const variation = variations[modifier]
        return variation ? [{ code: variation.unified, file: variation.image, subject, has: [tone, ...has] }] : []
      })
      return [{ code: unified, file: image, subject, has }, ...toned]
    })
}

// A man or a woman at the start, or a sign of one at the end: couples and families are neither.
const [woman, man] = [/^1F469|-2640/, /^1F468|-2642/]

function genderOf(code: string): string[] {
  if (/-1F46[6-9]/.test(code)) return []
  return genders.filter((_, index) => [woman, man][index]!.test(code))
}

const subjectOf = (code: string): string =>
  code
    .replace(/^1F46[89]/, '1F9D1')
    .replace(/(-FE0F)?-200D-264[02]-FE0F/, '')
    .replace(/-FE0F$/, '')

/**
 * The emoji with an attribute, and those without it that are alike in all else: where all others are the contrast, a direction to
 * dark skin also leads to people. A tone has the yellow emoji against it, a gender those of neither; a kind has all others, none
 * of them toned.
 */
export function contrast(all: readonly Emoji[], name: string): Emoji[] {
  const rivals = [tones, genders].find((group) => group.includes(name))
  if (!rivals) return all.filter(isYellow)
  const isPlain = ({ has }: Emoji): boolean => !has.some((other) => rivals.includes(other))
  const alike = ({ subject, has }: Emoji): string => [subject, ...has.filter((other) => !rivals.includes(other))].join()
  const having = new Map(all.filter(({ has }) => has.includes(name)).map((one) => [alike(one), one]))
  return all.filter(isPlain).flatMap((plain) => {
    const twin = having.get(alike(plain))
    return twin ? [plain, twin] : []
  })
}

export const isYellow = ({ has }: Emoji): boolean => !has.some((name) => tones.includes(name))

/**
 * These emoji as a dataset. `list` is written for it: a file like CelebA's `list_attr_celeba.csv`; the pictures are read from the
 * package.
 */
export async function asDataset(emoji: readonly Emoji[], list: string, size: number): Promise<Dataset> {
  const rows = emoji.map(({ file, has }) => [file, ...attributes.map((name) => (has.includes(name) ? 1 : -1))])
  await writeFile(list, [['image_id', ...attributes], ...rows, ''].join('\n'))
  return celebA({ images: pictures, attributes: list }, { size, background: [255, 255, 255] })
}
