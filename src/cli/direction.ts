/** `glowflow direction` */

import { loadModel } from '../index.js'
import { command, show } from './command.js'
import { dataOptions, readData } from './data-options.js'
import { openDataAloud } from './data-source.js'
import { usageError } from './failure.js'
import { batchSizeOption, deviceOption, modelOption } from './model.js'
import { pending, type PendingModel } from './pending.js'

export const directionCommand = () => {
  const direction = command(
    'direction',
    '--model <path> --having <path> --without <path> [options]',
    'Find what sets some images apart from others.',
    [
      ['direction --model runs/faces --having smiling --without serious --out smile.json', 'two folders of images'],
      [
        'direction --model runs/faces --data celeba --attributes --out attributes.json',
        'one for each attribute of a data set',
      ],
    ],
  )
    .addOption(modelOption())
    .addOption(deviceOption())
    .addOption(batchSizeOption())
    .option('--having <path>', 'images that have it: a folder, or anything that --data takes')
    .option('--without <path>', 'images that lack it')
    .option('--attributes', 'one direction for each attribute of --data')
    .option('--name <name>', 'what the direction of --having and --without is called', 'direction')
    .option('--out <file>', 'where the directions go, as JSON', 'direction.json')
  return dataOptions(direction).action(
    async ({ model: path, device, batchSize, having, without, attributes, name, out, json, ...typed }) => {
      const settings = await readData(typed)
      const two = having !== undefined && without !== undefined
      if (two === Boolean(attributes) || Boolean(attributes) !== (settings.path !== undefined))
        throw usageError('Expected --having and --without, or --data and --attributes')
      await using model = (await loadModel(path, { device })) as PendingModel
      const directions = two
        ? {
            [name]: await model.direction(
              await openDataAloud({ ...settings, path: having }, 'train'),
              await openDataAloud({ ...settings, path: without }, 'train'),
              { batchSize },
            ),
          }
        : await model.directions(await openDataAloud(settings, 'train'))
      await pending.saveDirections(out, directions)
      const names = Object.keys(directions)
      show({ json: { file: out, directions: names }, text: `${names.join(', ')} in ${out}` }, json)
    },
  )
}
