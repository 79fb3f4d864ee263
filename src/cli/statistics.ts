/** Numbers that sum up numbers. */

export const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length

/** Of the sample: divided by one less than their number; NaN for a single one. */
export function deviation(values: readonly number[]): number {
  const middle = mean(values)
  return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1))
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const half = sorted.length / 2
  return (sorted[Math.ceil(half) - 1]! + sorted[Math.floor(half)]!) / 2
}

/** `3.352 ± 0.004`, or the mean alone where there is one value. */
export function spread(values: readonly number[], digits: number): string {
  const around = deviation(values)
  return mean(values).toFixed(digits) + (Number.isNaN(around) ? '' : ` ± ${around.toFixed(digits)}`)
}
