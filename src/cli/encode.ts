/** `glowflow encode` */

import { loadModel } from '../index.js'
import { command, number, show } from './command.js'
import { dataOptions, readData } from './data-options.js'
import { inputImages } from './images.js'
import { saveLatents } from './latents-file.js'
import { batchSizeOption, deviceOption, labelsOf, labelsOption, modelOption, precisionOption } from './model.js'

export const encodeCommand = () => {
  const encode = command('encode', '--model <path> --images <path...> [options]', 'Turn images into latents.', [
    ['encode --model runs/photos --images a.png b.png --out latents.npy', 'two images'],
    ['encode --model runs/mnist --data data/mnist --pad 2 --count 1000', 'the first thousand of a data set'],
  ])
    .addOption(modelOption())
    .addOption(deviceOption())
    .addOption(batchSizeOption())
    .addOption(precisionOption())
    .addOption(labelsOption())
    .option('--images <path...>', 'image files, or folders of them')
    .option('--count <n>', 'images of --data, from the first', number, 16)
    .option('--out <file>', 'a NumPy file with a row of float32 for each image', 'latents.npy')
  return dataOptions(encode).action(
    async ({ model: path, device, batchSize, precision, labels, images, count, out, json, ...typed }) => {
      await using model = await loadModel(path, { device })
      const input = await inputImages(model, { images, count }, await readData(typed))
      const latents = await model.encode(input, { batchSize, precision, ...labelsOf(model, labels, input) })
      await saveLatents(out, latents)
      const { count: rows, dims, scales } = latents
      show({ json: { file: out, count: rows, dims, scales }, text: `${rows} x ${dims} latents in ${out}` }, json)
    },
  )
}
