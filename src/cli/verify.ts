/** `glowflow verify` */

import { loadModel } from '../index.js'
import { command, number, show } from './command.js'
import { dataOptions, readData } from './data-options.js'
import { exitCode } from './failure.js'
import { inputImages } from './images.js'
import { batchSizeOption, deviceOption, labelsOf, labelsOption, modelOption, precisionOption } from './model.js'

export const verifyCommand = () => {
  const verify = command(
    'verify',
    '--model <path> --images <path...> [options]',
    'Check that images come back pixel for pixel.',
    [
      [
        'verify --model runs/photos --images photos',
        'the images of a folder; the exit code is 1 if a pixel does not come back',
      ],
      ['verify --model runs/mnist --data data/mnist --pad 2 --count 1000', 'a thousand test images'],
    ],
  )
    .addOption(modelOption())
    .addOption(deviceOption())
    .addOption(batchSizeOption())
    .addOption(precisionOption())
    .addOption(labelsOption())
    .option('--images <path...>', 'image files, or folders of them')
    .option('--count <n>', 'images of --data, from the first', number, 100)
  return dataOptions(verify).action(
    async ({ model: path, device, batchSize, precision, labels, images, count, json, ...typed }) => {
      await using model = await loadModel(path, { device })
      const input = await inputImages(model, { images, count }, await readData(typed))
      const found = await model.verify(input, { batchSize, precision, ...labelsOf(model, labels, input) })
      const { pixelMismatches, maxError, maxConditionNumber, worstLayer } = found
      const text = [
        `${pixelMismatches} of ${input.data.length} values of ${input.count} images came back different`,
        `largest error ${maxError.toExponential(1)} of a value in [-0.5, 0.5), largest condition number ${maxConditionNumber.toFixed(1)}, worst layer ${worstLayer}`,
      ]
      const failed = pixelMismatches > 0
      show(
        { json: { images: input.count, ...found }, text: text.join('\n'), exitCode: failed ? exitCode.failure : 0 },
        json,
      )
    },
  )
}
