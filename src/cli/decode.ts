/** `glowflow decode` */

import { loadModel } from '../index.js'
import { command, number, show } from './command.js'
import { countText, picturesOut, writeImages } from './images.js'
import { loadLatents } from './latents-file.js'
import { batchSizeOption, deviceOption, labelsOf, labelsOption, modelOption, precisionOption } from './model.js'

export const decodeCommand = () =>
  command('decode', '--model <path> --latents <file> [options]', 'Turn latents back into images.', [
    ['decode --model runs/photos --latents latents.npy --out decoded', 'a file for each row'],
    ['decode --model runs/photos --latents latents.npy --out grid.png', 'one picture with all'],
  ])
    .addOption(modelOption())
    .addOption(deviceOption())
    .addOption(batchSizeOption())
    .addOption(precisionOption())
    .addOption(labelsOption())
    .requiredOption('--latents <file>', 'a NumPy file of encode, or float32 of images x dims')
    .option('--columns <n>', 'images in a row of the picture (default: nearest to a square)', number)
    .addOption(picturesOut('decoded'))
    .action(async ({ model: path, device, batchSize, precision, labels, latents: file, columns, out, json }) => {
      const latents = await loadLatents(file)
      await using model = await loadModel(path, { device })
      const images = await model.decode(latents, { batchSize, precision, ...labelsOf(model, labels) })
      const files = await writeImages(out, images, { columns })
      const { count, height, width, channels } = images
      show(
        {
          json: { files, count, height, width, channels },
          text: `${countText(count)} of ${height}x${width}x${channels} in ${out}`,
        },
        json,
      )
    })
