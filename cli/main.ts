#!/usr/bin/env node
/** twillctl: constructs what `run` needs. */
import { readFile } from 'node:fs/promises'
import { text } from 'node:stream/consumers'
import { SocketStore } from '../datastore/embedded/socket-store.ts'
import { openEtcd, openKubernetes } from '../datastore/open.ts'
import { systemClock } from '../lib/clock.ts'
import { silentLog } from '../lib/log.ts'
import { systemRandom } from '../lib/random.ts'
import { readAudit, readStatus, repairNode } from './daemon-api.ts'
import { run } from './run.ts'

// A reader that has seen enough (`twillctl get nodes | head -1`) is no failure.
process.stdout.on('error', error => process.exit((error as NodeJS.ErrnoException).code === 'EPIPE' ? 0 : 1))

const modules = {
  clock: systemClock,
  random: systemRandom,
  log: silentLog,
  readFile: (path: string) => readFile(path),
  environment: process.env,
}

process.exitCode = await run(process.argv.slice(2), {
  openStore: settings => openEtcd(settings, modules),
  openKubernetes: (settings, records) => openKubernetes(settings, records, modules),
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
