/** `glowflow direction` */

import { type Direction, loadModel } from '../index.js'
import { command, show } from './command.js'
import { dataOptions, readData } from './data-options.js'
import { openForModel } from './data-source.js'
import { holdsOne, writeDirections } from './directions-file.js'
import { usageError } from './failure.js'
import { batchSizeOption, deviceOption, modelOption } from './model.js'

export const directionCommand = () => {
  const direction = command(
    'direction',
    '--model <path> --having <path> --without <path> [options]',
    'Find what sets some images apart from others.',
    [
      ['direction --model runs/faces --having smiling --without serious --out smile.json', 'two folders of images'],
      ['direction --model runs/faces --data celeba --attributes --out all.safetensors', 'one for each attribute'],
      ['direction --model runs/faces --data celeba --attributes Smiling Male', 'one for each of these attributes'],
    ],
  )
    .addOption(modelOption())
    .addOption(deviceOption())
    .addOption(batchSizeOption())
    .option('--having <path>', 'images that have it: a folder, or anything that --data takes')
    .option('--without <path>', 'images that lack it')
    .option('--attributes [name...]', 'one direction for each attribute of --data (or class), or for these')
    .option('--name <name>', 'what the direction of --having and --without is called', 'direction')
    .option('--out <file>', 'a .json for one direction, .safetensors for any number', 'direction.safetensors')
  return dataOptions(direction, 'train').action(
    async ({ model: path, device, batchSize, having, without, attributes, name, out, json, ...typed }) => {
      const data = await readData(typed)
      const two = having !== undefined && without !== undefined && attributes === undefined && data.path === undefined
      const many = having === undefined && without === undefined && attributes !== undefined && data.path !== undefined
      if (!two && !many) throw usageError('Expected --having and --without, or --data and --attributes')
      if (many && holdsOne(out)) throw usageError(`Expected an --out that ends in .safetensors but received ${out}`)
      await using model = await loadModel(path, { device })
      const open = (from?: string) => openForModel(model, { ...data, ...(from && { path: from }) }, 'train')
      const directions: Record<string, Direction> = two
        ? { [name]: await model.direction(await open(having), await open(without), { batchSize }) }
        : await model.directions(await open(), { batchSize, ...(Array.isArray(attributes) && { only: attributes }) })
      await writeDirections(out, directions)
      const names = Object.keys(directions)
      show({ json: { file: out, directions: names }, text: `${names.join(', ')} in ${out}` }, json)
    },
  )
}
