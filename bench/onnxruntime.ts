/** onnxruntime-node as a child of the bench, on a model that glowflow has exported. */

import { readFile } from 'node:fs/promises'

import { InferenceSession, Tensor } from 'onnxruntime-node'

import { serve, type Spec, timed } from './child.ts'

const spec: Spec = JSON.parse(process.argv[2]!)
const open = (part: string): Promise<InferenceSession> =>
  InferenceSession.create(`${spec.model}.${part}.onnx`, { intraOpNumThreads: spec.threads, interOpNumThreads: 1 })

const pixels = new Uint8Array(await readFile(spec.images)).subarray(0, 3072 * spec.batch)
const images = new Tensor(
  'float32',
  Float32Array.from(pixels, (value) => value + 0.5),
  [spec.batch, 32, 32, 3],
)
const encode = await open('encode')
if (spec.task === 'encode') {
  await serve((times) => timed(times, () => encode.run({ images })))
} else {
  const { latents } = await encode.run({ images })
  const decode = await open('decode')
  await serve((times) => timed(times, () => decode.run({ latents: latents! })))
}
