/** Writes the JSON schema of `--config` from the rules that check it. */

import { mkdir, writeFile } from 'node:fs/promises'

import { configSchema } from '../dist/cli/schema.js'

const folder = new URL('../schema/', import.meta.url)
await mkdir(folder, { recursive: true })
await writeFile(new URL('config.schema.json', folder), `${JSON.stringify(configSchema(), null, 2)}\n`)
