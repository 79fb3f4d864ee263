/** `glowflow export` */

import { Option } from '@commander-js/extra-typings'

import { exportOnnx, loadModel, type OnnxPart } from '../index.js'
import { command, show } from './command.js'
import { deviceOption, modelOption } from './model.js'

export const exportCommand = () =>
  command('export', '--model <path> --part <name> [options]', 'Write a model for other programs.', [
    ['export --model runs/photos --part decode --out decode.onnx', 'latents to images, for ONNX runtimes'],
    ['export --model runs/photos --part logProb --out score.onnx', 'images to latents and log-probabilities'],
  ])
    .addOption(modelOption())
    .addOption(deviceOption())
    .addOption(new Option('--format <name>', 'the kind of file').choices(['onnx'] as const).default('onnx' as const))
    .addOption(
      new Option('--part <name>', 'what the file computes: encode, decode or logProb')
        .argParser((name) => name as OnnxPart)
        .makeOptionMandatory(),
    )
    .option('--out <file>', 'the file', 'model.onnx')
    .action(async ({ model: path, device, format, part, out, json }) => {
      await using model = await loadModel(path, { device })
      await exportOnnx(model, out, { part })
      show({ json: { file: out, format, part }, text: `${part} in ${out}` }, json)
    })
