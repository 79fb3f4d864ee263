import { SingleBar } from 'cli-progress'
import type { TrainEvent } from 'glowflow'

/** A bar in a terminal, a line every ten seconds elsewhere. */
export function showProgress(seconds: number): { tell(event: TrainEvent): void; end(): void } {
  const start = Date.now()
  const format = '{bar} {loss} bits/dim | {speed} images/s | {left} s left'
  const bar = process.stdout.isTTY ? new SingleBar({ format, hideCursor: true, barsize: 30 }) : undefined
  const state = { loss: '-', speed: '-', left: `${seconds}` }
  bar?.start(seconds, 0, state)
  let printed = start
  return {
    tell(event) {
      if (event.type === 'warning') console.warn(`${bar ? '\n' : ''}step ${event.step}: ${event.message}`)
      if (event.type !== 'step-end') return
      const passed = Math.min(seconds, (Date.now() - start) / 1000)
      state.loss = event.loss.toFixed(3)
      state.speed = event.imagesPerSecond.toFixed(0)
      state.left = (seconds - passed).toFixed(0)
      bar?.update(passed, state)
      if (bar || Date.now() - printed < 10_000) return
      printed = Date.now()
      console.log(`step ${event.step}: ${state.loss} bits/dim | ${state.speed} images/s | ${state.left} s left`)
    },
    end: () => bar?.stop(),
  }
}
