/** Memory that does not grow with calls. */

import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

import test from 'ava'

test('2,000 more calls take no more memory', async (t) => {
  const script = fileURLToPath(new URL('children/calls.ts', import.meta.url))
  const args = ['--expose-gc', '--import=@oxc-node/core/register', script]
  const { stdout } = await promisify(execFile)(process.execPath, args, { encoding: 'utf8' })
  const { early, late } = JSON.parse(stdout)
  t.log(`${(early / 2 ** 20).toFixed(1)} MiB, then ${(late / 2 ** 20).toFixed(1)} MiB`)
  // The results of the calls in between are 98 MB.
  t.true(late - early < 2 ** 24, `${late - early} bytes more`)
})
