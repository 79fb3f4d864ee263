import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { allEmoji, asDataset, attributes, contrast, isYellow, tones } from '../examples/emoji-data.ts'
import { folder } from './helpers.js'

const all = allEmoji()
const one = (code: string) => all.find((emoji) => emoji.code === code)!

test('every emoji has a kind, and 16 names say what else it has', (t) => {
  t.is(attributes.length, 16)
  t.is(new Set(attributes).size, 16)
  t.is(all.length, 3486)
  t.is(new Set(all.map(({ file }) => file)).size, all.length)
  const counts = attributes.map((name) => all.filter(({ has }) => has.includes(name)).length)
  t.deepEqual(counts, [316, 316, 316, 316, 316, 472, 472, 1966, 169, 159, 131, 218, 85, 264, 224, 270])
  t.deepEqual(one('1F44B').has, ['people'])
  t.deepEqual(one('1F44B-1F3FF').has, ['dark skin', 'people'])
  t.deepEqual(one('1F469-1F3FB-200D-1F52C').has, ['light skin', 'people', 'woman'])
  t.deepEqual(one('1F3C4-200D-2642-FE0F').has, ['people', 'man'])
  t.deepEqual(one('1F46B').has, ['people'], 'a woman and a man')
  t.deepEqual(one('1F468-200D-1F467').has, ['people'], 'a family')
  t.deepEqual(one('1F34D').has, ['food'])
  t.deepEqual(one('1F1EF-1F1F5').has, ['flags'])
  t.is(one('1F3C4-200D-2642-FE0F').subject, one('1F3C4-1F3FB').subject)
  t.is(one('1F469-1F3FB-200D-1F52C').subject, one('1F9D1-200D-1F52C').subject)
})

test('what lacks an attribute is like what has it in all else', (t) => {
  const dark = contrast(all, 'dark skin')
  t.is(dark.length, 2 * 316)
  for (let at = 0; at < dark.length; at += 2) {
    t.true(isYellow(dark[at]!))
    t.deepEqual(dark[at + 1]!.has, ['dark skin', ...dark[at]!.has])
    t.is(dark[at + 1]!.subject, dark[at]!.subject)
  }
  const women = contrast(all, 'woman')
  t.is(women.length, 2 * 472)
  t.deepEqual(
    women.filter(({ has }) => has.includes('man')),
    [],
  )
  const skin = ({ has }: (typeof women)[number]) => has.filter((name) => tones.includes(name))
  for (let at = 0; at < women.length; at += 2) {
    t.deepEqual(skin(women[at]!), skin(women[at + 1]!))
    t.is(women[at]!.has.includes('woman'), false)
    t.true(women[at + 1]!.has.includes('woman'))
  }
  t.true(contrast(all, 'food').every(isYellow))
})

test('emoji are a data set with the list that was written', async (t) => {
  const list = join(await folder(t), 'list.csv')
  const data = await asDataset([one('1F44B-1F3FD'), one('1F7E6')], list, 32)
  t.deepEqual(data.attributes, attributes)
  t.like(data, { length: 2, height: 32, width: 32, channels: 3 })
  const { attributes: rows, data: pixels } = await data.batch([0, 1])
  t.deepEqual([...rows!.subarray(0, 16)], [0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])
  t.deepEqual([...rows!.subarray(16)], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0])
  t.deepEqual([...pixels.subarray(0, 3)], [255, 255, 255], 'transparency is white')
  const [header, wave] = (await readFile(list, 'utf8')).split('\n')
  t.is(header, ['image_id', ...attributes].join(','))
  t.regex(wave!, /^1f44b-1f3fd\.png,-1,-1,1,-1,/)
})
