/**
 * Two networks in turn on one node, so that all else is the same: twill's as the daemon has written it, and bridge with
 * host-local. The runtime takes the first file of its folder.
 */
import {
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import type { Machine } from '../hack/rig/machine.ts'
import { compile } from './spawner.ts'

const FOLDER = '/etc/cni/net.d'
const FIRST = `${FOLDER}/00-bench.conflist`
const TIMES = '/run/timed-plugin'

interface Conflist {
  cniVersion: string
  name: string
  plugins: { type: string }[]
}

export type NetworkName = 'twill' | 'bridge'

/** How addresses of each begin. */
export const ADDRESSES: Record<NetworkName, string> = { twill: '10.244.', bridge: '10.66.' }

export class NodeNetworks {
  readonly #machine: Machine
  readonly #twill: Conflist

  /** @throws Error: the daemon has written no configuration */
  constructor(machine: Machine) {
    this.#machine = machine
    const file = readdirSync(machine.path(FOLDER)).find(name => name.endsWith('.conflist'))
    if (file === undefined) throw new Error(`${machine.name}: nothing in ${FOLDER}`)
    this.#twill = JSON.parse(readFileSync(machine.path(`${FOLDER}/${file}`), 'utf8')) as Conflist
  }

  /** Of pods that start from now on. No pod of the other network may be left. */
  use(network: NetworkName): void {
    if (network === 'bridge') this.#write(this.#bridge())
    else rmSync(this.#machine.path(FIRST), { force: true })
  }

  /** As `use('twill')`, but each call of the plugin is timed. */
  useTimed(): void {
    const [twill, ...chain] = this.#twill.plugins
    const timed = `timed-${twill!.type}`
    const link = this.#machine.path(`/opt/cni/bin/${timed}`)
    if (!existsSync(link)) symlinkSync(compile('timed-plugin'), link)
    rmSync(this.#machine.path(TIMES), { force: true })
    this.#write({ ...this.#twill, plugins: [{ ...twill!, type: timed }, ...chain] })
  }

  /** Milliseconds of each call since `useTimed`. */
  timesOf(command: string): number[] {
    const lines = readFileSync(this.#machine.path(TIMES), 'utf8').trim().split('\n')
    return lines
      .map(line => line.split(' '))
      .filter(([said]) => said === command)
      .map(([, us]) => Number(us) / 1000)
  }

  /** With the same plugins chained as ours has. */
  #bridge(): Conflist {
    const ranges = [[{ subnet: '10.66.0.0/16' }], [{ subnet: 'fd00:66::/64' }]]
    const routes = [{ dst: '0.0.0.0/0' }, { dst: '::/0' }]
    const ipam = { type: 'host-local', ranges, routes }
    const bridge = { type: 'bridge', bridge: 'bench0', isGateway: true, ipam }
    return {
      cniVersion: this.#twill.cniVersion,
      name: 'bench',
      plugins: [bridge, ...this.#twill.plugins.slice(1)],
    }
  }

  /** Whole or not at all: the runtime reads when it hears of it. */
  #write(conflist: Conflist): void {
    const fresh = this.#machine.path(`${FIRST}.new`)
    writeFileSync(fresh, JSON.stringify(conflist))
    renameSync(fresh, this.#machine.path(FIRST))
  }
}
