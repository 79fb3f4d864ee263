/** `glowflow sample` */

import { loadModel } from '../index.js'
import { command, number, show } from './command.js'
import { countText, picturesOut, writeImages } from './images.js'
import { batchSizeOption, deviceOption, labelsOf, labelsOption, modelOption, precisionOption } from './model.js'

export const sampleCommand = () =>
  command('sample', '--model <path> [options]', 'Draw new images.', [
    ['sample --model runs/photos --out grid.png', '16 images as one picture'],
    ['sample --model runs/photos --count 100 --temperature 0.9 --seed 1 --out drawn', 'a hundred files in a folder'],
  ])
    .addOption(modelOption())
    .addOption(deviceOption())
    .addOption(batchSizeOption())
    .addOption(precisionOption())
    .addOption(labelsOption())
    .option('--count <n>', 'how many', number, 16)
    .option('--temperature <x>', 'below 1 trades variety for likelihood (default: 0.7)', number)
    .option('--seed <n>', 'the same seed gives the same images (default: drawn at random)', number)
    .option('--columns <n>', 'images in a row of the picture (default: nearest to a square)', number)
    .addOption(picturesOut('samples.png'))
    .action(async ({ model: path, device, labels, out, columns, json, ...options }) => {
      await using model = await loadModel(path, { device })
      const { count, temperature, seed, batchSize, precision } = options
      const images = await model.sample({ count, temperature, seed, batchSize, precision, ...labelsOf(model, labels) })
      const files = await writeImages(out, images, { columns })
      const { height, width, channels } = images
      show(
        {
          json: { files, count, height, width, channels },
          text: `${countText(count)} of ${height}x${width}x${channels} in ${out}`,
        },
        json,
      )
    })
