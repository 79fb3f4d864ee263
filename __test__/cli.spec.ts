import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import test from 'ava'

import { createProgram } from '../dist/cli/program.js'
import { glowflow, idxFolder } from './cli-helpers.js'
import { folder, initialized } from './helpers.js'

const commands = createProgram().commands.map((command) => command.name())

test('the commands are those of the documentation, each with examples of its own that are understood', async (t) => {
  t.deepEqual(commands.toSorted(), [
    'compare',
    'decode',
    'direction',
    'encode',
    'eval',
    'export',
    'figure3',
    'import',
    'info',
    'interpolate',
    'sample',
    'shift',
    'train',
    'verify',
  ])
  const documentation = await readFile(new URL('../docs/cli.md', import.meta.url), 'utf8')
  for (const name of commands) {
    t.regex(documentation, new RegExp(`^#+ .*\\b${name}\\b`, 'm'))
    const program = createProgram()
    let help = ''
    program.commands
      .find((command) => command.name() === name)!
      .configureOutput({ writeOut: (text) => (help += text) })
      .outputHelp()
    const examples = [...help.matchAll(/^ {2}\$ glowflow (\S+) (.*)$/gm)]
    t.true(examples.length >= 2, name)
    for (const [, used, line] of examples) {
      t.is(used, name)
      // An example with an option that does not exist would not be an example.
      const options = line!.split(' | ')[0]!.match(/(?<= |^)--[a-z-]+/g) ?? []
      for (const option of options) t.regex(help, new RegExp(`^ {2}${option}\\b`, 'm'), `${name} ${option}`)
    }
  }
})

test('help and version go to stdout, help without a command to stderr', async (t) => {
  const [help, train, version, none] = await Promise.all([
    glowflow(['--help']),
    glowflow(['train', '--help']),
    glowflow(['--version']),
    glowflow([]),
  ])
  for (const name of commands) t.regex(help.stdout, new RegExp(`^ {2}${name}\\b`, 'm'))
  t.is(help.code, 0)
  t.regex(train.stdout, /^Usage: glowflow train /)
  const { version: packaged } = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8'))
  t.deepEqual(version, { code: 0, stdout: `${packaged}\n`, stderr: '' })
  t.deepEqual([none.code, none.stdout], [2, ''])
  t.regex(none.stderr, /^Usage: glowflow/)
})

test('what is not understood is one sentence with the closest name, and exit code 2', async (t) => {
  const wrong: [args: string[], sentence: RegExp][] = [
    [['tran'], /^glowflow: unknown command 'tran' \(Did you mean train\?\) \(ERR_CLI_USAGE\)\n$/],
    [['train', '--dept', '4'], /^glowflow.*: unknown option '--dept' \(Did you mean --depth\?\) \(ERR_CLI_USAGE\)\n$/],
    [['sample'], /--model <path>' not specified \(ERR_CLI_USAGE\)\n$/],
    [['sample', '--model'], /argument missing \(ERR_CLI_USAGE\)\n$/],
    [['train'], /^glowflow train: Expected --data <path> .* \(ERR_CLI_USAGE\)\n$/],
    [['train', '--config', 'a', '--resume', 'b'], /Expected --config or --resume but received both/],
    [['info'], /Expected --model <path>, --preset <name>, or --image-size/],
    [['info', '--model', 'x', '--depth', '3'], /Expected --model or the options of a model/],
    [
      ['train', '--data', 'x', '--schedule', 'cosinus'],
      /^glowflow train: Expected 'constant' or 'cosine' for --schedule but received 'cosinus' \(ERR_GLOW_OPTION\)\n$/,
    ],
    [
      ['train', '--data', 'x', '--learning-rate', 'fast', '--betas', '0.9'],
      /a number above 0 for --learning-rate but received 'fast'.*each in \[0, 1\) for --betas but received 0.9/,
    ],
    [
      ['info', '--image-size', '30'],
      /Expected a multiple of 8 .* for --image-size but received 30 \(ERR_GLOW_OPTION\)\n$/,
    ],
    [
      ['info', '--image-size', '32', '--levels', 'many'],
      /Expected an integer of at least 0 for --levels but received 'many'/,
    ],
  ]
  const ends = await Promise.all(wrong.map(([args]) => glowflow(args)))
  for (const [index, { code, stdout, stderr }] of ends.entries()) {
    const [args, sentence] = wrong[index]!
    t.regex(stderr, sentence)
    t.deepEqual([code, stdout, stderr.split('\n').length], [2, '', 2], args.join(' '))
  }
})

test('what fails is one sentence and exit code 1, with a stack only where it is asked for', async (t) => {
  const dir = await folder(t)
  await writeFile(join(dir, 'letter'), 'This is a letter.')
  await writeFile(join(dir, 'letter.npy'), 'This is a letter, not an array.')
  const model = await initialized()
  await model.save(join(dir, 'model'))
  const failing: [args: string[], sentence: RegExp][] = [
    [['sample', '--model', 'missing', '--device', 'cpu'], /missing.* \(ERR_GLOW_IO\)\n$/],
    [['sample', '--model', 'letter', '--device', 'cpu'], /letter.* \(ERR_GLOW_FILE\)\n$/],
    [['sample', '--model', 'model', '--device', 'gpu:98'], /gpu:98.* \(ERR_GLOW_DEVICE_UNAVAILABLE\)\n$/],
    [['train', '--data', 'missing'], /^glowflow train: missing: no such file or directory \(ENOENT\)\n$/],
    [['train', '--data', 'letter'], /letter cannot be used: it is neither an IDX file .* \(ERR_CLI_FILE\)\n$/],
    [['train', '--resume', '.'], /cannot be used: there is no settings.json of a run .* \(ERR_CLI_FILE\)\n$/],
    [
      ['decode', '--model', 'model', '--latents', 'letter.npy'],
      /letter.npy cannot be used: it is no NumPy file .* \(ERR_CLI_FILE\)\n$/,
    ],
    [['train', '--config', 'letter'], /letter cannot be used: it is not JSON .* \(ERR_CLI_FILE\)\n$/],
  ]
  const ends = await Promise.all(failing.map(([args]) => glowflow(args, dir)))
  for (const [index, { code, stdout, stderr }] of ends.entries()) {
    const [args, sentence] = failing[index]!
    const ours = stderr.slice(stderr.indexOf('glowflow'))
    t.regex(ours, sentence)
    t.deepEqual([code, stdout, ours.split('\n').length], [1, '', 2], args.join(' '))
  }
  const args = ['sample', '--model', 'missing', '--device', 'cpu']
  const [asked, set, json] = await Promise.all([
    glowflow([...args, '--debug'], dir),
    glowflow(args, dir, { GLOWFLOW_DEBUG: '1' }),
    glowflow([...args, '--json'], dir),
  ])
  for (const { stderr } of [asked, set]) t.regex(stderr, /\n {4}at /)
  t.like(JSON.parse(json.stdout), { error: { code: 'ERR_GLOW_IO', details: { errno: 2 } } })
})

test('a config file: an unknown name with its path and the closest, and options win over it', async (t) => {
  const dir = await folder(t)
  const write = (name: string, config: unknown) => writeFile(join(dir, name), JSON.stringify(config))
  await write('unknown.json', { model: { dept: 4 }, train: { optimizer: { learningrate: 1 } } })
  await write('range.json', { model: { depth: 4 }, train: { steps: 0 } })
  await write('good.json', {
    $schema: './schema.json',
    data: { path: await idxFolder(dir, 32) },
    model: { levels: 1, depth: 1, hidden: 4, device: 'cpu' },
    train: { steps: 500, batchSize: 8 },
  })
  const unknown = await glowflow(['train', '--config', 'unknown.json'], dir)
  t.is(unknown.code, 2)
  t.is(
    unknown.stderr,
    'glowflow train: unknown.json: Unknown option model.dept, the closest known one is model.depth. ' +
      'Unknown option train.optimizer.learningrate, the closest known one is train.optimizer.learningRate (ERR_GLOW_OPTION)\n',
  )
  const range = await glowflow(['train', '--config', 'range.json'], dir)
  t.regex(
    range.stderr,
    /range.json: Expected an integer of at least 1 for train.steps but received 0 \(ERR_GLOW_OPTION\)\n$/,
  )
  const good = await glowflow(['train', '--config', 'good.json', '--steps', '2', '--out', 'run'], dir)
  t.regex(good.stdout, /^Finished at step 2 after/)
  const kept = JSON.parse(await readFile(join(dir, 'run', 'settings.json'), 'utf8'))
  t.like(kept, { model: { levels: 1, hidden: 4 }, train: { steps: 2, batchSize: 8 } })
})

test('info says what a model takes without making it', async (t) => {
  const { code, stdout } = await glowflow(['info', '--image-size', '32', '--edge-bias', '--json'])
  t.is(code, 0)
  const { config, memory } = JSON.parse(stdout)
  t.deepEqual(config, { imageSize: 32, edgeBias: true })
  t.is(memory.parameters, 44_603_604)
  t.true(memory.stored > memory.inputs && memory.inputs > memory.constant)
  const shown = await glowflow([
    'info',
    '--image-size',
    '16x8',
    '--levels',
    '2',
    '--depth',
    '1',
    '--hidden',
    '4',
    '--batch-size',
    '4',
    '--measure',
    '--steps',
    '1000',
    '--device',
    'cpu',
  ])
  t.regex(shown.stdout, /^imageSize 16x8$/m)
  t.regex(shown.stdout, /^ {2}constant +[\d.]+ MiB$/m)
  t.regex(shown.stdout, /^[\d.]+ images\/s on CPU/m)
  t.regex(shown.stdout, /^1000 steps of 4 images: [\d.]+ (s|min)$/m)
})
