import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { Ajv2020 } from 'ajv/dist/2020.js'
import test from 'ava'
import { createGlow, createNice, GlowError } from 'glowflow'

import { configSchema } from '../dist/cli/schema.js'
import { modelRules } from '../dist/config.js'
import { readSettings } from '../dist/cli/config-file.js'
import { settingOptions } from '../dist/cli/flags.js'
import { about, leaves, paths, sections } from '../dist/cli/settings.js'
import { folder } from './helpers.js'

const schema = configSchema()
const valid = new Ajv2020({ allErrors: true }).compile(schema)
const all = Object.entries(sections).flatMap(([section, rules]) => leaves(rules, `${section}.`))

/** A config of one setting, and of the kind of model that has it. */
const only = (path: string, value: unknown): unknown => {
  const config = path.split('.').reduceRight((inner, name) => ({ [name]: inner }), value) as object
  const kind = (['realnvp', 'nice'] as const).find((known) => path.slice(6) in modelRules[known])
  if (path.startsWith('model.') && path !== 'model.kind' && kind && !(path.slice(6) in modelRules.glow))
    return { model: { kind, [path.slice(6)]: value } }
  return config
}

test('the schema that is shipped is the one that the rules give', async (t) => {
  const file = new URL('../schema/config.schema.json', import.meta.url)
  t.deepEqual(JSON.parse(await readFile(file, 'utf8')), schema)
})

test('--config accepts what the schema accepts, and refuses the rest', async (t) => {
  const file = join(await folder(t), 'config.json')
  const accepts = async (config: unknown): Promise<boolean> => {
    await writeFile(file, JSON.stringify(config))
    try {
      await readSettings({}, [], file)
      return true
    } catch (error) {
      t.is((error as { code?: string }).code, 'ERR_GLOW_OPTION')
      return false
    }
  }
  const numbers = [-1, 0, 0.5, 1, 1.5, 3, 4, 255, 256, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1, 2 ** 53]
  const texts = ['', 'x', 'a\0b', 'cpu', 'gpu:1', 'gpu:12345', 'CPU', ' cpu']
  const lists = [[], [1], [1, 2], [0, 0.5], [0, 1], [0, 0, 255], [0, 0, 256], [1, 2, 3, 4], ['x', 'y']]
  const seen = { accepted: 0, refused: 0 }
  const same = async (config: unknown): Promise<void> => {
    const expected = valid(config)
    t.is(await accepts(config), expected, JSON.stringify(config))
    seen[expected ? 'accepted' : 'refused']++
  }
  for (const [path, { schema: one }] of all) {
    const names = (one?.['enum'] ?? []) as unknown[]
    for (const value of [...numbers, ...texts, ...lists, ...names, true, false, null, {}])
      // oxlint-disable-next-line no-await-in-loop -- One file, written again and again.
      await same(only(path, value))
    // oxlint-disable-next-line no-await-in-loop
    await same(only(`${path}x`, 1))
  }
  for (const config of [
    {},
    [],
    null,
    3,
    'x',
    { $schema: './x.json' },
    { $schema: 3 },
    { models: {} },
    { model: { kind: 'nice', couplings: 3 } },
    { model: { kind: 'nice', depth: 3 } },
    { model: { kind: 'realnvp', blocks: 3, levels: 2 } },
    { model: { kind: 'glow', blocks: 3 } },
    { model: { blocks: 3 } },
  ])
    // oxlint-disable-next-line no-await-in-loop
    await same(config)
  for (const section of Object.keys(sections))
    // oxlint-disable-next-line no-await-in-loop
    for (const value of [{}, [], null, 3]) await same({ [section]: value })
  t.true(seen.accepted > 150 && seen.refused > 1000, JSON.stringify(seen))
})

test('every setting that a file can hold has a sentence and an option, and those have a setting', (t) => {
  const held = all.map(([path]) => path).filter((path) => path !== 'model.layout')
  t.deepEqual(
    held.filter((path) => !(path in about)),
    [],
  )
  // Without a schema it would be left out of the one that is shipped.
  t.deepEqual(
    all.filter(([, { schema: one }]) => !one),
    [],
  )
  const known = new Set(all.map(([path]) => path))
  t.deepEqual(
    Object.keys(about).filter((path) => !known.has(path)),
    [],
  )
  const options = (['model', 'train', 'data'] as const).flatMap((section) => settingOptions('', paths(section)))
  const names = options.map(({ long }) => long!)
  const twice = names.filter((name, index) => names.indexOf(name) !== index)
  t.deepEqual(twice.toSorted(), ['--channels', '--seed'])
})

test('the defaults that the help of a model names are those of the engine', async (t) => {
  const configs = [
    (await createGlow({ imageSize: 8, device: 'cpu', depth: 1, hidden: 4 })).config,
    (await createNice({ imageSize: 8, device: 'cpu', hidden: 4 })).config,
  ]
  const made = ['seed', 'depth', 'hidden', 'imageSize']
  const named = configs.flatMap((config) =>
    Object.entries(about).flatMap(([path, sentence]) => {
      const name = /^model\.(\w+)$/.exec(path)?.[1] ?? ''
      const [usual, ...others] = (/\(default: ([^,)]+)\)/.exec(sentence)?.[1] ?? '').split('; ')
      const own = others.find((other) => other.startsWith(`${config.kind}: `))?.split(': ')[1]
      return usual && name in config && !made.includes(name) ? [{ config, name, value: own ?? usual }] : []
    }),
  )
  t.deepEqual([...new Set(named.map(({ name }) => name))].toSorted(), [
    'bits',
    'channels',
    'classifierWeight',
    'coupling',
    'couplings',
    'kind',
    'layers',
    'learnTop',
    'levels',
    'permutation',
    'precision',
    'prior',
    'scale',
    'whitening',
  ])
  for (const { config, name, value } of named) {
    const actual = Reflect.get(config, name)
    if (name !== 'kind') t.is(value, actual === true ? 'yes' : String(actual), `${name} of ${config.kind}`)
  }
})

test('what is typed wins over the file, and its refusal is a GlowError', async (t) => {
  const file = join(await folder(t), 'config.json')
  await writeFile(file, JSON.stringify({ model: { depth: 4 }, train: { optimizer: { learningRate: 1, epsilon: 2 } } }))
  const wanted = [...paths('model'), ...paths('train')]
  const typed = { depth: '8', learningRate: '1e-4', betas: '0.8,0.9', imageSize: '16x8', edgeBias: false, seed: '7' }
  t.deepEqual(await readSettings(typed, wanted, file), {
    model: { depth: 8, imageSize: [16, 8], edgeBias: false, seed: 7 },
    train: { optimizer: { learningRate: 1e-4, epsilon: 2, betas: [0.8, 0.9] }, seed: 7 },
  })
  const error = await t.throwsAsync(readSettings({ depth: 'deep', clipNorm: '' }, wanted))
  t.true(GlowError.isInstance(error))
})
