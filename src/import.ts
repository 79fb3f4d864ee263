/** Models from the weights of other projects. */

import * as native from '#native'

import { type DeviceLike, deviceRule, resolveDevice } from './device.js'
import { engine } from './task.js'
import { FlowModel } from './model.js'
import { check, checkOne, type PathLike, toPath } from './options.js'
import * as is from './rules.js'
import type { Rules } from './rules.js'

/** A project whose models can be imported. */
export type PyTorchLayout =
  /** rosinality/glow-pytorch. */
  | 'rosinality'
  /** y0ast/Glow-PyTorch. */
  | 'y0ast'
  /** chaiyujin/glow-pytorch. */
  | 'chaiyujin'
  /** normflows, the multi-scale Glow of its examples. */
  | 'normflows'

export interface ImportOptions {
  /** Whose names the file has. */
  layout: PyTorchLayout
  /** Height and width of the images, which weights do not tell. */
  imageSize: number | readonly [height: number, width: number]
  /** Bits of each channel that are modelled. rosinality's own program trains with 5. @default 8 */
  bits?: number
  /**
   * Where the owner's pixels were: in [-0.5, 0.5), or in [0, 1), where the own programs of chaiyujin and normflows have them.
   * @default 'centred'
   */
  inputRange?: 'centred' | 'unit'
  /** @default 'auto' */
  device?: DeviceLike
  /** Take a file that lacks weights: a new model's stay in their place. @default false */
  allowPartial?: boolean
}
const importRules: Rules<ImportOptions> = {
  layout: is.required(is.oneOf('rosinality', 'y0ast', 'chaiyujin', 'normflows')),
  imageSize: is.required(is.size),
  bits: is.integer(0),
  inputRange: is.oneOf('centred', 'unit'),
  device: deviceRule,
  allowPartial: is.boolean,
}

/** What became of the tensors of a file, by their names there. */
export interface ImportReport {
  /** Now the model's. */
  readonly applied: readonly string[]
  /**
   * Needed and not in the file, with the closest name that has no use: always empty without `allowPartial`, where the import
   * rejects instead.
   */
  readonly missing: readonly { readonly name: string; readonly closest?: string }[]
  /** Masks, flags and the like, which follow from the rest. */
  readonly constant: readonly string[]
  /** In the file and unknown. */
  readonly unused: readonly string[]
}

/** A model that has been imported. */
export interface ImportedModel {
  readonly model: FlowModel
  readonly report: ImportReport
}

/**
 * A model from weights that another project has trained, in a file of `torch.save` (nothing in it is run) or of safetensors. Its
 * sizes are those of the weights, and it keeps the project's parametrisation, so that training goes on as there.
 *
 * @throws `ERR_GLOW_WEIGHTS` where weights are missing, of other shapes, not finite, or of another project, which is named; its
 * details have a `report` where names are missing. `ERR_GLOW_FILE` where the file is of another format, damaged or hostile,
 * `ERR_GLOW_OPTION` where an option cannot be used or images of this size do not fit, `ERR_GLOW_OUT_OF_MEMORY`, `ERR_GLOW_IO`,
 * `ERR_GLOW_DEVICE_UNAVAILABLE`.
 */
export async function importPyTorch(file: PathLike, options: ImportOptions): Promise<ImportedModel> {
  checkOne('file', file, is.path)
  check(options, importRules)
  const { layout, imageSize, bits, inputRange, device, allowPartial = false } = options
  const [height, width] = typeof imageSize === 'number' ? [imageSize, imageSize] : imageSize
  const path = toPath(file)
  const opened = await resolveDevice(device)
  const weights: native.WeightsOptions = {
    layout,
    height,
    width,
    allowPartial,
    ...(bits === undefined ? {} : { bits }),
    ...(inputRange === undefined ? {} : { inputRange }),
  }
  const imported = await engine(() => native.importWeights(path, weights, opened))
  return { model: FlowModel.of(imported.model, 'f32'), report: JSON.parse(imported.report) }
}
