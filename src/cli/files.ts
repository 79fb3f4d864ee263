/** Files of this program itself; all others are the engine's. */

import { rename, writeFile } from 'node:fs/promises'

/** Writes a file beside its place and renames it: it is there whole or not at all. */
export async function writeWhole(file: string, content: string | Uint8Array): Promise<void> {
  const beside = `${file}.${process.pid}.part`
  await writeFile(beside, content)
  await rename(beside, file)
}
