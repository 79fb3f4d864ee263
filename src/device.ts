/** Where models live and compute. */

import * as native from '#native'

import { checkOne } from './options.js'
import type { Rule } from './rules.js'
import { engine, type Precision } from './task.js'

/** `'auto'`: a hardware GPU, else the CPU. `'gpu'`: the first hardware GPU; a software one only by its `gpu:N`. */
export type DeviceName = 'auto' | 'cpu' | 'gpu' | `gpu:${number}`
/** What `device` options take. */
export type DeviceLike = DeviceName | Device

/** A device, open or not. */
export interface DeviceInfo {
  readonly name: `gpu:${number}` | 'cpu'
  /** As the driver calls it, e.g. `'NVIDIA H100'` or `'llvmpipe'`. */
  readonly label: string
  readonly backend: 'flex' | 'vulkan' | 'metal' | 'dx12'
  /** True for a GPU that a driver plays on the processor. */
  readonly software: boolean
  /** What its coupling nets can compute in: `'f32'` everywhere. */
  readonly precisions: readonly Precision[]
}

/** An open device. */
export interface Device extends DeviceInfo {
  /** Resolves once everything queued on the device has run. */
  sync(): Promise<void>
}

class OpenDevice implements Device {
  readonly name: DeviceInfo['name']
  readonly label: string
  readonly backend: DeviceInfo['backend']
  readonly software: boolean
  readonly precisions: readonly Precision[]
  readonly #native: native.Device

  constructor(device: native.Device) {
    const { name, label, backend, software, precisions } = device.info as DeviceInfo
    this.name = name
    this.label = label
    this.backend = backend
    this.software = software
    this.precisions = precisions
    this.#native = device
  }

  sync(): Promise<void> {
    return engine(() => this.#native.sync())
  }

  static nativeOf(value: unknown): native.Device | undefined {
    return typeof value === 'object' && value !== null && #native in value ? value.#native : undefined
  }
}

const pattern = /^(auto|cpu|gpu|gpu:\d{1,4})$/
const nameRule: Rule = {
  expected: "'auto', 'cpu', 'gpu' or 'gpu:N'",
  accepts: (value) => typeof value === 'string' && pattern.test(value),
  schema: { type: 'string', pattern: pattern.source },
}
export const deviceRule: Rule = {
  ...nameRule,
  expected: `${nameRule.expected}, or a Device`,
  accepts: (value) => nameRule.accepts(value) || OpenDevice.nativeOf(value) !== undefined,
}

/** The devices of this machine, the preferred one first. Opens none of them. */
export function listDevices(): Promise<DeviceInfo[]> {
  return engine(native.listDevices) as Promise<DeviceInfo[]>
}

/**
 * Opens a device. There is one queue for each device, shared by all models on it.
 *
 * @throws `ERR_GLOW_DEVICE_UNAVAILABLE` rather than fall back to another device.
 */
export async function openDevice(name: DeviceName = 'auto'): Promise<Device> {
  checkOne('name', name, nameRule)
  return new OpenDevice(await engine(() => native.openDevice(name)))
}

/** The engine's device for a `device` option. */
export async function resolveDevice(device: DeviceLike = 'auto'): Promise<native.Device> {
  return OpenDevice.nativeOf(device) ?? engine(() => native.openDevice(device as DeviceName))
}
