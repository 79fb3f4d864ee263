/**
 * Runs every test of the project, Rust's and TypeScript's, and closes with one line: `N passed, N failed`.
 *
 * A test that needs a Vulkan driver prints `skipped: <name> (no Vulkan driver)` where there is none. With
 * GLOWFLOW_REQUIRE=vulkan that is a failure.
 */

import { spawn } from 'node:child_process'
import { stripVTControlCharacters } from 'node:util'

const { GLOWFLOW_REQUIRE: required } = process.env

const skipped = /^skipped: (.+) \(no Vulkan driver\)$/
const runners = [
  {
    command: ['cargo', 'test', '--release', '--workspace', '--no-fail-fast'],
    count: (line) => {
      const [, passed, failed, ignored] = /^test result: .* (\d+) passed; (\d+) failed; (\d+) ignored/.exec(line) ?? []
      return { passed, failed, skipped: ignored }
    },
  },
  {
    command: ['npx', 'ava'],
    count: (line) => {
      const [, number, what] =
        /^ {2}(\d+) (?:tests?|uncaught exceptions?|unhandled rejections?) ?(passed|skipped|failed|todo)?$/.exec(line) ??
        []
      if (number === undefined) return {}
      return { [{ passed: 'passed', skipped: 'skipped', todo: 'skipped' }[what] ?? 'failed']: number }
    },
  },
]

const total = { passed: 0, failed: 0, skipped: 0 }
const names = []

for (const { command, count } of runners) {
  const before = { ...total }
  const code = await run(command, (line) => {
    for (const [what, number] of Object.entries(count(line))) total[what] += Number(number ?? 0)
    const name = skipped.exec(line)?.[1]
    if (name !== undefined) names.push(name)
  })
  // A runner that failed without counting a failure did not compile or was killed; one that counted nothing ran nothing.
  const told = code === 0 ? total.passed > before.passed : total.failed > before.failed
  if (!told) total.failed += 1
}

// A skipped Rust test counts as passed with its runner.
total.passed -= names.length
if (required === 'vulkan') {
  total.failed += names.length
  for (const name of names) console.log(`failed: ${name} was skipped, but GLOWFLOW_REQUIRE asks for Vulkan`)
} else {
  total.skipped += names.length
  for (const name of names) console.log(`skipped: ${name} (no Vulkan driver)`)
}
if (total.skipped > 0) console.log(`${total.skipped} skipped`)
console.log(`${total.passed} passed, ${total.failed} failed`)
process.exitCode = total.failed === 0 ? 0 : 1

/** Streams a runner's output, gives each line to `read`, and its exit code. */
function run([program, ...args], read) {
  const child = spawn(program, args, { stdio: ['inherit', 'pipe', 'pipe'] })
  for (const [stream, target] of [
    [child.stdout, process.stdout],
    [child.stderr, process.stderr],
  ]) {
    let rest = ''
    stream.setEncoding('utf8').on('data', (text) => {
      target.write(text)
      const lines = (rest + text).split('\n')
      rest = lines.pop() ?? ''
      lines.forEach((line) => read(stripVTControlCharacters(line)))
    })
    stream.on('end', () => read(stripVTControlCharacters(rest)))
  }
  return new Promise((resolve) => {
    child.on('error', (error) => {
      console.error(error.message)
      resolve(1)
    })
    child.on('close', (code) => resolve(code ?? 1))
  })
}
