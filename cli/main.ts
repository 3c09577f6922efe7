#!/usr/bin/env node
/** twillctl: constructs what `run` needs. */
import { readFile } from 'node:fs/promises'
import { text } from 'node:stream/consumers'
import { SocketStore } from '../datastore/embedded/socket-store.ts'
import { openEtcd } from '../datastore/open.ts'
import { systemClock } from '../lib/clock.ts'
import { silentLog } from '../lib/log.ts'
import { systemRandom } from '../lib/random.ts'
import { readAudit, readStatus, repairNode } from './daemon-api.ts'
import { run } from './run.ts'

// A reader that has seen enough (`twillctl get nodes | head -1`) is no failure.
process.stdout.on('error', error => process.exit((error as NodeJS.ErrnoException).code === 'EPIPE' ? 0 : 1))

process.exitCode = await run(process.argv.slice(2), {
  openStore: settings =>
    openEtcd(settings, {
      clock: systemClock,
      random: systemRandom,
      log: silentLog,
      readFile: path => readFile(path),
    }),
  openEmbedded: options => new SocketStore(options, { clock: systemClock, log: silentLog }),
  readStatus: socket => readStatus(socket),
  readAudit: socket => readAudit(socket),
  repairNode: (socket, dryRun) => repairNode(socket, dryRun),
  readFile: path => (path === '-' ? text(process.stdin) : readFile(path, 'utf8')),
  clock: systemClock,
  random: systemRandom,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
})
