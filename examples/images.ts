import type { Images } from 'glowflow'

/** The values of one image, not copied. */
export function image({ data, height, width, channels }: Images, index: number): Uint8Array {
  const dims = height * width * channels
  return data.subarray(index * dims, (index + 1) * dims)
}
