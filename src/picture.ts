/** Pictures to look at: grids of images and plots of training curves. */

import * as native from '#native'

import { type Images, toBytes } from './images.js'
import { check, type PathLike, checkOne, toPath } from './options.js'
import * as is from './rules.js'
import type { Rules } from './rules.js'
import { engine } from './task.js'

/** How images are laid out. */
export interface GridOptions {
  /** Images in a row. @default as many as bring the picture nearest to a square */
  columns?: number
  /** Pixels between images. @default 2 */
  gap?: number
  /** Between images and in empty places. @default white */
  background?: readonly [red: number, green: number, blue: number]
}
const gridRules: Rules<GridOptions> = { columns: is.integer(1), gap: is.integer(0), background: is.color }

function toGrid(options: GridOptions): native.GridOptions {
  check(options, gridRules)
  const { background, ...rest } = options
  return { ...rest, ...(background && { background: [...background] }) }
}

/** All images in one PNG file, row by row; grey images make a grey picture. */
export async function pngGrid(images: Images, options: GridOptions = {}): Promise<Uint8Array> {
  const [grid, pixels] = [toGrid(options), toBytes('images', images)]
  return engine(() => native.pngGrid(pixels, grid))
}

/** As {@link pngGrid}, into a file that is there whole or not at all. */
export async function writePngGrid(file: PathLike, images: Images, options: GridOptions = {}): Promise<void> {
  checkOne('file', file, is.path)
  const [grid, pixels] = [toGrid(options), toBytes('images', images)]
  await engine(() => native.writePngGrid(toPath(file), pixels, grid))
}

/** Curves and what is written around them. */
export interface Plot {
  title?: string
  /** Name and unit of the horizontal axis. */
  xLabel?: string
  /** Name and unit of the vertical axis. */
  yLabel?: string
  series: readonly Series[]
}
/** One curve. */
export interface Series {
  /** In the legend; left out of it without. */
  name?: string
  /** x and y of each point, x ascending. A point that is not finite is left out. */
  points: readonly (readonly [x: number, y: number])[]
  /** Thin and pale, in the colour of the next curve that is not: raw values behind their mean. @default false */
  faint?: boolean
}
const isPoint = (value: unknown): boolean =>
  Array.isArray(value) && value.length === 2 && value.every((number) => typeof number === 'number')
const seriesRules: Rules<Series> = {
  name: is.text,
  points: is.required(is.list('a list of [x, y]', isPoint)),
  faint: is.boolean,
}
const plotRules: Rules<Plot> = {
  title: is.text,
  xLabel: is.text,
  yLabel: is.text,
  series: is.required(is.list('a list of curves', is.nested(seriesRules).accepts)),
}

/** Writes a line plot, whole or not at all: SVG or PNG, as the name of the file ends in `.svg` or `.png`. */
export async function writePlot(file: PathLike, plot: Plot): Promise<void> {
  checkOne('file', file, is.path)
  check(plot, plotRules)
  plot.series.forEach((series) => check(series, seriesRules))
  const series = plot.series.map(({ points, ...rest }) => ({
    ...rest,
    x: points.map(([x]) => x),
    y: points.map(([, y]) => y),
  }))
  await engine(() => native.writePlot(toPath(file), { ...plot, series }))
}
