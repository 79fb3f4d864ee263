#!/usr/bin/env node
/** The program `glowflow`. */

import { main } from './program.js'

// A reader that has seen enough, such as head, ends the program quietly; a training run ends as with Ctrl-C.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  if (process.listenerCount('SIGINT') === 0) process.exit()
  if (!broken) process.emit('SIGINT', 'SIGINT')
  broken = true
})
let broken = false

await main(process.argv.slice(2))
