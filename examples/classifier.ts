import type { Images } from 'glowflow'

import { image } from './images.ts'

/** Logistic regression on pixels, by stochastic gradient descent: the log-odds that an image is of `ones`, not of `zeros`. */
export function classifier(zeros: Images, ones: Images): (images: Images) => number[] {
  const weights = new Float64Array(image(zeros, 0).length + 1)
  const odds = (pixels: Uint8Array): number =>
    pixels.reduce((sum, pixel, at) => sum + (weights[at]! * pixel) / 255, weights.at(-1)!)
  const learn = (pixels: Uint8Array, label: number): void => {
    const step = 0.003 * (label - 1 / (1 + Math.exp(-odds(pixels))))
    pixels.forEach((pixel, at) => (weights[at]! += (step * pixel) / 255))
    weights[weights.length - 1]! += step
  }
  for (let epoch = 0; epoch < 10; epoch++)
    for (let index = 0; index < Math.min(zeros.count, ones.count); index++) {
      learn(image(zeros, index), 0)
      learn(image(ones, index), 1)
    }
  return (images) => Array.from({ length: images.count }, (_, index) => odds(image(images, index)))
}
