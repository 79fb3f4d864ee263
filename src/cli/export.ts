/** `glowflow export` */

import { Option } from '@commander-js/extra-typings'

import { exportOnnx, exportPyTorch, loadModel, type OnnxPart, type PyTorchOptions } from '../index.js'
import { command, show } from './command.js'
import { usageError } from './failure.js'
import { deviceOption, modelOption } from './model.js'

export const exportCommand = () =>
  command('export', '--model <path> [options]', 'Write a model for other programs.', [
    ['export --model runs/photos --part decode --out decode.onnx', 'latents to images, for ONNX runtimes'],
    ['export --model runs/photos --part logProb --out score.onnx', 'images to latents and log-probabilities'],
    ['export --model faces.safetensors --format pytorch --layout rosinality', 'weights for rosinality/glow-pytorch'],
  ])
    .addOption(modelOption())
    .addOption(deviceOption())
    .addOption(
      new Option('--format <name>', 'the kind of file').choices(['onnx', 'pytorch'] as const).default('onnx' as const),
    )
    .addOption(
      new Option('--part <name>', 'what an ONNX file computes: encode, decode or logProb').argParser(
        (name) => name as OnnxPart,
      ),
    )
    .addOption(
      new Option('--layout <name>', 'whose names a PyTorch file has: rosinality').argParser(
        (name) => name as PyTorchOptions['layout'],
      ),
    )
    .option('--out <file>', 'the file (default: model.onnx or model.pt)')
    .action(async ({ model: path, device, format, part, layout, out, json }) => {
      const [needed, other] = format === 'onnx' ? (['part', 'layout'] as const) : (['layout', 'part'] as const)
      const typed = { part, layout }
      if (typed[needed] === undefined || typed[other] !== undefined)
        throw usageError(`Expected --${needed} and no --${other} with --format ${format}`)
      await using model = await loadModel(path, { device })
      const file = out ?? (format === 'onnx' ? 'model.onnx' : 'model.pt')
      if (format === 'onnx') await exportOnnx(model, file, { part: part! })
      else await exportPyTorch(model, file, { layout: layout! })
      const what = format === 'onnx' ? { part: part! } : { layout: layout! }
      show({ json: { file, format, ...what }, text: `${part ?? `weights of ${layout}`} in ${file}` }, json)
    })
