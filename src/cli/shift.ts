/** `glowflow shift` */

import { loadModel } from '../index.js'
import { command, number, numbers, show } from './command.js'
import { dataOptions, readData } from './data-options.js'
import { readDirection } from './directions-file.js'
import { inputImages, picturesOut, writeImages } from './images.js'
import { batchSizeOption, deviceOption, labelsOf, labelsOption, modelOption } from './model.js'

export const shiftCommand = () => {
  const shift = command(
    'shift',
    '--model <path> --direction <file> --images <path...> [options]',
    'Move images along a direction.',
    [
      [
        'shift --model runs/faces --images me.png --direction smile.json --amounts=-1,-0.5,0,0.5,1',
        'one row: less to the left, more to the right',
      ],
      [
        'shift --model runs/faces --images faces --direction attributes.safetensors --name Smiling --out shifted',
        'one direction of several',
      ],
    ],
  )
    .addOption(modelOption())
    .addOption(deviceOption())
    .addOption(batchSizeOption())
    .addOption(labelsOption())
    .option('--images <path...>', 'image files, or folders of them')
    .option('--count <n>', 'images of --data, from the first', number, 16)
    .requiredOption('--direction <file>', 'of glowflow direction')
    .option('--name <name>', 'which direction of a file that holds several')
    .option('--amounts <x,x>', 'how far; write = before a list that begins with a minus', numbers, [0, 1])
    .addOption(picturesOut('shifted.png'))
  return dataOptions(shift).action(
    async ({
      model: path,
      device,
      batchSize,
      labels,
      images,
      count,
      direction: file,
      name,
      amounts,
      out,
      json,
      ...typed
    }) => {
      const direction = await readDirection(file, name)
      await using model = await loadModel(path, { device })
      const input = await inputImages(model, { images, count }, await readData(typed))
      const shifted = await model.shift(input, direction, { amounts, batchSize, ...labelsOf(model, labels, input) })
      const files = await writeImages(out, shifted, { columns: amounts.length })
      const text = `${shifted.count} images in ${out}, a row for each image`
      show({ json: { files, count: shifted.count, amounts }, text }, json)
    },
  )
}
