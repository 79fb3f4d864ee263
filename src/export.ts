/** Models as files for programs that run them without this package. */

import { FlowModel } from './model.js'
import { check, checkOne, type PathLike, toPath } from './options.js'
import * as is from './rules.js'
import type { Rule, Rules } from './rules.js'

/** What an ONNX file computes. */
export type OnnxPart =
  /** `images` to `latents`. */
  | 'encode'
  /** `latents` to `images`. */
  | 'decode'
  /** `images` to `latents` and `log_prob`. */
  | 'logProb'

export interface OnnxOptions {
  part: OnnxPart
}
const onnxRules: Rules<OnnxOptions> = { part: is.required(is.oneOf('encode', 'decode', 'logProb')) }

/** How another project keeps a model. */
export interface PyTorchOptions {
  /** rosinality/glow-pytorch. */
  layout: 'rosinality'
}
const pyTorchRules: Rules<PyTorchOptions> = { layout: is.required(is.oneOf('rosinality')) }

const modelRule: Rule = { expected: 'a FlowModel', accepts: (value) => value instanceof FlowModel }

/**
 * A part of a model, at the present state of its weights, as an ONNX file: opset 17, every weight inside. It is written beside and
 * renamed, so never half a file. Its inputs and outputs, with any number of images and the model's own size:
 *
 * - `images`, float32 `[batch, height, width, channels]`: pixel values in [0, 256), already put into their bins, `v + 0.5` being the
 *   middle of that of an 8-bit value `v`; and as {@link FlowModel.decodeFloat} gives them.
 * - `latents`, float32 `[batch, height * width * channels]`: rows as {@link FlowModel.encode} gives them, every scale flattened, the
 *   finest first.
 * - `labels`, int64 `[batch]`: the class of each image, from 0; an input of every part of a class-conditional model, and of no other.
 * - `log_prob`, float64 `[batch]`: log-probability of the `bits`-bit images, nats, as of {@link FlowModel.logProb}.
 *
 * @throws `ERR_GLOW_OPTION` for an unknown part, `ERR_GLOW_NOT_INITIALIZED` before the model has seen data, `ERR_GLOW_IO` where the
 * system refuses, `ERR_GLOW_FILE` for a model above the 2 GB that an ONNX file holds, `ERR_GLOW_SINGULAR` in decode for a 1x1
 * convolution without an inverse, `ERR_GLOW_DISPOSED`.
 */
export async function exportOnnx(model: FlowModel, file: PathLike, options: OnnxOptions): Promise<void> {
  checkOne('model', model, modelRule)
  checkOne('file', file, is.path)
  check(options, onnxRules)
  await model.exportOnnx(toPath(file), options.part)
}

/**
 * A model's weights as the `state_dict` of another project's model, in a file that `torch.load` reads, also with
 * `weights_only=True`. It is written beside and renamed. rosinality/glow-pytorch holds models that were imported in its layout,
 * and those only: its convolutions see ones around the image where those of other layouts see zeros.
 *
 * @throws `ERR_GLOW_OPTION` for the option that keeps the model from being held, with the reason, `ERR_GLOW_IO` where the system
 * refuses, `ERR_GLOW_FILE` for weights above 4 GB, `ERR_GLOW_DISPOSED`.
 */
export async function exportPyTorch(model: FlowModel, file: PathLike, options: PyTorchOptions): Promise<void> {
  checkOne('model', model, modelRule)
  checkOne('file', file, is.path)
  check(options, pyTorchRules)
  await model.exportRosinality(toPath(file))
}
