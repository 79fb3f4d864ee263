/** Everything but the tests, the cheapest check first. */

import { spawnSync } from 'node:child_process'

const generated = ['src/native.js', 'src/native.d.ts', 'schema/config.schema.json', 'package-lock.json', 'Cargo.lock']
const checks = [
  ['prettier', '--check', '.'],
  ['cargo', 'fmt', '--all', '--check'],
  ['oxlint', '--deny-warnings'],
  ['cargo', 'clippy', '--release', '--workspace', '--all-targets', '--', '--deny', 'warnings'],
  ['npm', 'run', 'build'],
  ['git', 'diff', '--exit-code', '--stat', '--', ...generated],
  ['tsc', '--noEmit'],
  ['publint', '--strict'],
  // Resolution as in Node 10 knows no `#native`: the profile leaves it out, but attw's exit code does not.
  ['attw', '--pack', '.', '--profile', 'esm-only', '--ignore-rules', 'internal-resolution-error'],
]

for (const [program, ...args] of checks) {
  console.log(`\n> ${program} ${args.join(' ')}`)
  const { status, error } = spawnSync(program, args, { stdio: 'inherit' })
  if (status !== 0) {
    console.error(`\nfailed: ${program} ${args.join(' ')}${error ? ` (${error.message})` : ''}`)
    process.exit(1)
  }
}
