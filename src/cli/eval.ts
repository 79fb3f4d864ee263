/** `glowflow eval` */

import { loadModel } from '../index.js'
import { command, number, show } from './command.js'
import { dataOptions, readData } from './data-options.js'
import { openForModel } from './data-source.js'
import { batchSizeOption, deviceOption, modelOption, precisionOption } from './model.js'
import { duration } from './progress.js'

export const evalCommand = () => {
  const evaluate = command(
    'eval',
    '--model <path> --data <path> [options]',
    'Score images: bits per dimension, the lower the more probable.',
    [
      ['eval --model runs/mnist --data data/mnist --pad 2', "MNIST's test images"],
      [
        'eval --model runs/mnist --data data/mnist --pad 2 --part train --limit 1000 --json',
        'a thousand training images',
      ],
    ],
  )
    .addOption(modelOption())
    .addOption(deviceOption())
    .addOption(batchSizeOption())
    .addOption(precisionOption())
    .option('--limit <n>', 'score only so many images, from the first', number)
    .option('--seed <n>', 'of the dequantization noise (default: 0)', number)
  return dataOptions(evaluate).action(
    async ({ model: path, device, batchSize, precision, limit, seed, json, ...typed }) => {
      const settings = await readData(typed)
      await using model = await loadModel(path, { device })
      const data = await openForModel(model, settings, 'test')
      const start = performance.now()
      const score = await model.evaluate(data, { limit, seed, batchSize, precision })
      const seconds = (performance.now() - start) / 1000
      const { bitsPerDim, standardError, images, classificationError } = score
      const wrong =
        classificationError === undefined ? '' : `, ${(100 * classificationError).toFixed(1)} % misclassified`
      const text = `${bitsPerDim.toFixed(4)} ± ${standardError.toFixed(4)} bits/dim${wrong}, ${images} images in ${duration(seconds)}`
      show({ json: { ...score, seconds }, text }, json)
    },
  )
}
