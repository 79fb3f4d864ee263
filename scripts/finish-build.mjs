/** What the compiler leaves to be done: the schema of `--config`, from the rules that check it, and a program that may be run. */

import { chmod, mkdir, writeFile } from 'node:fs/promises'

import { configSchema } from '../dist/cli/schema.js'

const folder = new URL('../schema/', import.meta.url)
await mkdir(folder, { recursive: true })
await writeFile(new URL('config.schema.json', folder), `${JSON.stringify(configSchema(), null, 2)}\n`)
await chmod(new URL('../dist/cli/main.js', import.meta.url), 0o755)
