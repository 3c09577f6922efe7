/**
 * Fault points: named steps at which a test kills or stalls this process, so that "killed at every step" is
 * driven and not left to luck. Inactive unless TWILL_FAULT is set, which only root can do to the daemon.
 *
 *   TWILL_FAULT=attach.intent-written          SIGKILL at the first pass
 *   TWILL_FAULT=attach.intent-written:3        SIGKILL at the third
 *   TWILL_FAULT=attach.intent-written=sleep5000   block this thread for 5 s instead
 *   TWILL_FAULT=attach.intent-written=throw    throw instead
 *
 * Every name must stand in FAULT_POINTS: the crash tests iterate over it.
 */
export const FAULT_POINTS = {
  add: [
    'add.received',
    'add.address-taken',
    'add.intent-written',
    'add.policy-in-force',
    'add.pair-created',
    'add.host-configured',
    'add.pod-configured',
    'add.kernel-done',
    'add.done-written',
    'add.answered',
  ],
  del: [
    'del.received',
    'del.detaching-written',
    'del.link-down',
    'del.policy-removed',
    'del.group-set',
    'del.kernel-done',
    'del.answered',
    'del.conntrack-flushed',
    'del.links-reaped',
    'del.gone-written',
    'del.address-released',
  ],
  lease: ['lease.received', 'lease.address-taken', 'lease.written', 'lease.answered', 'lease.ended-written'],
  ledger: ['ledger.before-commit', 'ledger.after-commit'],
  store: [
    'store.before-write',
    'store.written',
    'store.synced',
    'store.applied',
    'store.checkpoint-written',
    'store.checkpoint-installed',
  ],
  leave: ['leave.marked', 'leave.given', 'leave.fenced'],
  claim: ['claim.recorded', 'claim.committed', 'claim.adopted'],
  /** A node asks others for addresses: its id in the journal, the request in the record, the answer seen. */
  request: ['request.recorded', 'request.entered', 'request.answered'],
  /** An executable is copied under a temporary name; it has its own. */
  install: ['install.written', 'install.renamed'],
  uninstall: [
    'uninstall.conflist-removed',
    'uninstall.executables-removed',
    'uninstall.links-removed',
    'uninstall.kernel-cleared',
    'uninstall.left',
    'uninstall.state-removed',
  ],
  /** A piece is struck from memory and journal; its commit was answered. */
  gift: ['gift.recorded', 'gift.committed'],
} as const

export type FaultPoint = (typeof FAULT_POINTS)[keyof typeof FAULT_POINTS][number]

interface Armed {
  readonly point: string
  readonly action: string
  passesLeft: number
}

function parse(text: string | undefined): Armed | null {
  if (!text) return null
  const match = /^([a-z.-]+)(?::(\d+))?(?:=(\w+))?$/.exec(text)
  if (!match) throw new Error(`TWILL_FAULT=${text}: expected POINT[:PASS][=throw|sleepMS]`)
  return { point: match[1] as string, passesLeft: Number(match[2] ?? 1), action: match[3] ?? 'kill' }
}

const armed = parse(process.env.TWILL_FAULT)

export function faultPoint(point: FaultPoint): void {
  if (armed === null || armed.point !== point || --armed.passesLeft !== 0) return
  if (armed.action === 'throw') throw new Error(`fault injected at ${point}`)
  if (armed.action.startsWith('sleep')) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(armed.action.slice(5)))
    return
  }
  process.kill(process.pid, 'SIGKILL')
  // The signal is delivered on the way out of the system call, but another thread may run a moment longer.
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
}
