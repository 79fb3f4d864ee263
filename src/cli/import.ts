/** `glowflow import` */

import { Option } from '@commander-js/extra-typings'

import { importPyTorch, type ImportReport, type PyTorchLayout } from '../index.js'
import { command, number, show } from './command.js'
import { deviceOption } from './model.js'

const most = 10

export const importCommand = () =>
  command(
    'import',
    '<file> --layout <name> --image-size <size> [options]',
    "Make a model of another project's PyTorch weights.",
    [
      [
        'import checkpoint/model_200001.pt --layout rosinality --image-size 64',
        'a checkpoint of rosinality/glow-pytorch',
      ],
      [
        'import flow.pth --layout normflows --image-size 32 --input-range unit --out flow.safetensors',
        'weights whose owner took a half off the pixels',
      ],
    ],
  )
    .argument('<file>', 'a file of torch.save or of safetensors; nothing in it is run')
    .addOption(
      new Option('--layout <name>', 'whose names it has: rosinality, y0ast, chaiyujin or normflows')
        .argParser((name) => name as PyTorchLayout)
        .makeOptionMandatory(),
    )
    .addOption(
      new Option('--image-size <size>', 'height and width, or both as 32x64').argParser(size).makeOptionMandatory(),
    )
    .option('--bits <n>', 'bits of each channel; train.py of rosinality has 5 (default: 8)', number)
    .addOption(
      new Option(
        '--input-range <name>',
        "where its owner's pixels were: centred in [-0.5, 0.5), or unit in [0, 1) as chaiyujin and normflows have them (default: centred)",
      ).argParser((name) => name as 'centred' | 'unit'),
    )
    .option('--allow-partial', 'take a file that lacks weights: those of a new model stay in their place')
    .addOption(deviceOption())
    .option('--out <file>', 'the model', 'model.safetensors')
    .action(async (file, { layout, imageSize, bits, inputRange, allowPartial, device, out, json }) => {
      const { model, report } = await importPyTorch(file, {
        layout,
        imageSize,
        device,
        ...(bits === undefined ? {} : { bits }),
        ...(inputRange === undefined ? {} : { inputRange }),
        ...(allowPartial === undefined ? {} : { allowPartial }),
      })
      await using imported = model
      await imported.save(out)
      const { config, parameterCount } = imported
      const text = [...sentences(report), `${parameterCount.toLocaleString('en')} parameters in ${out}`].join('\n')
      show({ json: { file: out, parameters: parameterCount, config, report }, text }, json)
    })

/** What was typed, as the API takes it or refuses it. */
function size(text: string): number | readonly [number, number] {
  const sides = text.split('x').map(number)
  return sides.length === 1 ? sides[0]! : (sides as unknown as [number, number])
}

function sentences({ applied, missing, constant, unused }: ImportReport): string[] {
  const list = (title: string, names: readonly string[]): string[] =>
    names.length === 0
      ? []
      : [title, ...names.slice(0, most).map((name) => `  ${name}`), ...(names.length > most ? ['  ...'] : [])]
  return [
    `${applied.length} tensors are the model's, ${constant.length} more follow from them`,
    ...list(
      `${missing.length} are missing:`,
      missing.map(({ name, closest }) => (closest === undefined ? name : `${name} (closest: ${closest})`)),
    ),
    ...list(`${unused.length} are unknown:`, unused),
  ]
}
