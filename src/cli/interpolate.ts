/** `glowflow interpolate` */

import { Option } from '@commander-js/extra-typings'

import { loadModel } from '../index.js'
import { command, number, show } from './command.js'
import { pictureOptions, readData } from './data-options.js'
import { picturesOut, readFiles, writeImages } from './images.js'
import { batchSizeOption, deviceOption, labelsOf, labelsOption, modelOption } from './model.js'

export const interpolateCommand = () => {
  const usage = '--model <path> --from <file> --to <file> [options]'
  const interpolate = command('interpolate', usage, 'Turn one image into another.', [
    [
      'interpolate --model runs/photos --from a.png --to b.png --out strip.png',
      'eight frames in a row, both images included',
    ],
    ['interpolate --model runs/photos --from a.png --to b.png --frames 30 --out frames', 'thirty files in a folder'],
    ['interpolate --model runs/photos --from a.png c.png --to b.png d.png', 'a row for each pair'],
  ])
    .addOption(modelOption())
    .addOption(deviceOption())
    .addOption(batchSizeOption())
    .addOption(labelsOption())
    .requiredOption('--from <file...>', 'image files, or folders of them')
    .requiredOption('--to <file...>', 'as many')
    .option('--frames <n>', 'images of a row, both ends included', number, 8)
    .addOption(
      new Option('--path <name>', 'the way through latent space: linear or spherical')
        .argParser((name) => name as 'linear')
        .default('linear' as const),
    )
    .addOption(picturesOut('interpolation.png'))
  return pictureOptions(interpolate).action(
    async ({ model: file, device, batchSize, labels, from, to, frames, path, out, json, ...typed }) => {
      const settings = await readData(typed)
      await using model = await loadModel(file, { device })
      const ends = await Promise.all([readFiles(model, from, settings), readFiles(model, to, settings)])
      const images = await model.interpolate(...ends, { frames, path, batchSize, ...labelsOf(model, labels) })
      const files = await writeImages(out, images, { columns: frames })
      show({ json: { files, count: images.count, frames }, text: `${images.count} frames in ${out}` }, json)
    },
  )
}
