/** Directions in files: one as JSON, any number with their names as safetensors. */

import { readFile } from 'node:fs/promises'
import { extname } from 'node:path'

import { type Direction, directionFromJSON, GlowError, loadDirections, saveDirections } from '../index.js'
import { fileError, usageError } from './failure.js'
import { writeWhole } from './files.js'

/** Whether a file of this name holds one direction, without its name. */
export const holdsOne = (file: string): boolean => extname(file).toLowerCase() === '.json'

/** `directions` is one where the file {@link holdsOne}. */
export async function writeDirections(file: string, directions: Readonly<Record<string, Direction>>): Promise<void> {
  if (holdsOne(file)) await writeWhole(file, JSON.stringify(Object.values(directions)[0]))
  else await saveDirections(file, directions)
}

/** The direction of this name, which may be left out where there is but one. */
export async function readDirection(file: string, name: string | undefined): Promise<Direction> {
  if (holdsOne(file)) return readJson(file)
  const directions = await loadDirections(file)
  const names = Object.keys(directions)
  if (name === undefined && names.length > 1)
    throw usageError(`Expected --name to say which direction of ${file}: ${names.join(', ')}`)
  const chosen = directions[name ?? names[0] ?? '']
  if (chosen === undefined) throw fileError(file, `it holds ${names.join(', ') || 'no direction'}, not ${name}`)
  return chosen
}

async function readJson(file: string): Promise<Direction> {
  try {
    return directionFromJSON(JSON.parse(await readFile(file, 'utf8')))
  } catch (error) {
    if (error instanceof SyntaxError || GlowError.isInstance(error)) throw fileError(file, 'it holds no direction')
    throw error
  }
}
