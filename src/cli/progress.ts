/** How a run goes on, for people: a bar in a terminal, a line every few seconds elsewhere. */

import { SingleBar } from 'cli-progress'

import type { TrainEvent, TrainOptions } from '../index.js'
import { note } from './command.js'

const secondsBetweenLines = 5

export class Progress {
  readonly #limits: TrainOptions
  readonly #bar: SingleBar | undefined
  readonly #started = performance.now()
  #printed = -Infinity
  #firstStep = 0
  /** Of training, before a resumption. */
  #earlierSeconds = 0
  #totalSteps: number
  #state = 'the first step'
  #score = ''

  constructor(limits: TrainOptions, stream: NodeJS.WriteStream = process.stderr) {
    this.#limits = limits
    this.#totalSteps = limits.steps ?? Infinity
    if (!stream.isTTY) return
    const limited = (limits.steps ?? limits.epochs ?? limits.seconds) !== undefined
    const format = limited ? '{bar} {state}' : '{state}'
    this.#bar = new SingleBar({ format, stream, hideCursor: true, barsize: 20, linewrap: false, gracefulExit: false })
    this.#bar.start(1, 0, { state: this.#state })
  }

  tell(event: TrainEvent): void {
    if (event.type === 'run-start') {
      this.#firstStep = event.step
      this.#earlierSeconds = event.seconds
      const { epochs, accumulate = 1 } = this.#limits
      if (epochs !== undefined)
        this.#totalSteps = Math.min(this.#totalSteps, Math.ceil((epochs * event.batchesPerEpoch) / accumulate))
    } else if (event.type === 'step-end') {
      this.#step(event)
    } else if (event.type === 'evaluation-end') {
      const { step, bitsPerDim, standardError, images } = event
      this.#score = `, held out ${bitsPerDim.toFixed(3)} ± ${standardError.toFixed(3)}`
      if (!this.#bar) note(`step ${step}${this.#score} bits/dim of ${images} images`)
    } else if (event.type === 'warning') {
      this.say(`step ${event.step}: warning: ${event.message}`)
    }
  }

  /** A line that stays, above the bar. */
  say(line: string): void {
    this.#bar?.stop()
    note(line)
    this.#bar?.start(1, 0, { state: this.#state })
  }

  stop(): void {
    this.#bar?.stop()
  }

  #step({ step, loss, imagesPerSecond }: TrainEvent & { type: 'step-end' }): void {
    const done = this.#done(step)
    const passed = (performance.now() - this.#started) / 1000
    const of = Number.isFinite(this.#totalSteps) ? `/${this.#totalSteps}` : ''
    const left = done > 0 ? `, ${duration(passed / done - passed)} left` : ''
    this.#state = `step ${step}${of}, ${loss.toFixed(3)} bits/dim, ${imagesPerSecond.toFixed(0)} images/s${left}${this.#score}`
    this.#bar?.update(done, { state: this.#state })
    if (this.#bar || performance.now() - this.#printed < 1000 * secondsBetweenLines) return
    this.#printed = performance.now()
    note(this.#state)
  }

  /** The part of the run that is over, by the limit that is nearest. */
  #done(step: number): number {
    const bySteps = (step - this.#firstStep) / (this.#totalSteps - this.#firstStep)
    const seconds = (this.#limits.seconds ?? Infinity) - this.#earlierSeconds
    const byTime = (performance.now() - this.#started) / 1000 / seconds
    return Math.min(1, Math.max(bySteps, byTime))
  }
}

/** Seconds as people say them. */
export function duration(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  if (seconds < 90) return `${seconds.toFixed(0)} s`
  if (seconds < 90 * 60) return `${(seconds / 60).toFixed(0)} min`
  return `${(seconds / 3600).toFixed(1)} h`
}
