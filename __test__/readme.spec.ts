import { execFile } from 'node:child_process'
import { access, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import test from 'ava'

import { folder } from './helpers.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const node = (args: string[], cwd: string) => promisify(execFile)(process.execPath, args, { cwd, encoding: 'utf8' })

test('the programs of README and docs have no type errors and run as written, one after the other', async (t) => {
  const pages = ['README.md', 'docs/latents.md', 'docs/training.md', 'docs/export.md'].map((page) =>
    readFile(join(root, page), 'utf8'),
  )
  const programs = [...(await Promise.all(pages)).join('\n').matchAll(/^```ts\n(.*?)^```$/gms)].map(
    ([, program]) => program!,
  )
  t.true(programs.length >= 5)

  const cwd = await folder(t)
  await mkdir(join(cwd, 'node_modules'))
  await symlink(root, join(cwd, 'node_modules', 'glowflow'), 'junction')
  for (const name of ['@types', 'onnxruntime-node'])
    // oxlint-disable-next-line no-await-in-loop
    await symlink(join(root, 'node_modules', name), join(cwd, 'node_modules', name), 'junction')
  await writeFile(join(cwd, 'package.json'), JSON.stringify({ type: 'module' }))
  const files = programs.map((_, index) => `program-${index + 1}.ts`)
  await Promise.all(programs.map((program, index) => writeFile(join(cwd, files[index]!), program)))
  await writeFile(join(cwd, 'tsconfig.json'), JSON.stringify({ extends: join(root, 'tsconfig.json'), include: files }))

  const typescript = join(root, 'node_modules', 'typescript', 'bin', 'tsc')
  const types = await node([typescript, '--noEmit'], cwd).catch((error: { stdout: string }) => error)
  t.is(types.stdout, '')

  const loader = import.meta.resolve('@oxc-node/core/register')
  const printed: string[] = []
  for (const file of files) {
    // One program reads what the one before it has written.
    // oxlint-disable-next-line no-await-in-loop
    const { stdout } = await node([`--import=${loader}`, file], cwd)
    printed.push(stdout)
  }
  t.regex(printed[0]!, /every pixel came back: true/)
  t.regex(printed[1]!, /drawn images: Float64Array\(4\)/)
  t.regex(printed[2]!, /stopped at step/)
  t.regex(printed[3]!, /ERR_GLOW_OPTION Expected a multiple of 8 /)
  t.regex(printed[4]!, /directions of 256 values: small, large/)
  t.regex(printed[5]!, /went on to step 40: 40/)
  t.regex(printed[6]!, /nats by ONNX: Float64Array\(4\)/)
  t.regex(printed[6]!, /pixel values differ by at most 0\./)
  const left = await readdir(cwd)
  for (const name of ['discs.png', 'discs.safetensors', 'checkpoints', 'samples', 'discs-edited.png'])
    t.true(left.includes(name), name)
})

test('the paths that CONTRIBUTING names are there', async (t) => {
  const text = await readFile(join(root, 'CONTRIBUTING.md'), 'utf8')
  const paths = [...text.matchAll(/`((?:crates|src|__test__|scripts|examples)\/[^`<]*)`/g)].map(([, path]) => path!)
  t.true(paths.length > 5)
  await Promise.all(paths.map((path) => t.notThrowsAsync(access(join(root, path)), path)))
})
