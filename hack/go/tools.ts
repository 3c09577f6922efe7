/**
 * Programs written in Go that the rigs, tests and benches run: built from their modules by name, each with a go.mod of
 * its own here, into a cache outside the checkout that is keyed by version. A program is built once for a machine, where
 * it is missing; Kubernetes takes some ten minutes.
 *
 * Run by itself (`npx tsx hack/go/tools.ts NAME...`) it builds, and prints the folders.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { findGo } from './go.ts'

interface Tool {
  /** In whose version the programs are built. */
  readonly module: string
  /** Program → package; a test binary where the package is "test PACKAGE". */
  readonly programs: Readonly<Record<string, string>>
  /** Given to the linker, with the version (v1.2.3) in place of VERSION: so that programs know their own. */
  readonly stamps?: readonly string[]
  /** Not built statically, as upstream does not. */
  readonly cgo?: readonly string[]
}

const KUBERNETES = 'k8s.io/kubernetes'
const CONTAINERD = 'github.com/containerd/containerd/v2'
const PLUGINS = 'github.com/containernetworking/plugins'

const of = (folder: string, ...names: readonly string[]): Record<string, string> =>
  Object.fromEntries(names.map(name => [name.replace(/.*\//, ''), `${folder}/${name}`]))

const TOOLS = {
  kubernetes: {
    module: KUBERNETES,
    programs: {
      ...of(`${KUBERNETES}/cmd`, 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'),
      ...of(`${KUBERNETES}/cmd`, 'kubelet', 'kube-proxy', 'kubectl'),
      agnhost: `${KUBERNETES}/test/images/agnhost`,
      ginkgo: 'github.com/onsi/ginkgo/v2/ginkgo',
      'e2e.test': `test ${KUBERNETES}/test/e2e`,
    },
    // Without its version kubectl refuses to print any.
    stamps: [
      'k8s.io/component-base/version.gitVersion=VERSION',
      'k8s.io/client-go/pkg/version.gitVersion=VERSION',
    ],
    cgo: ['kubelet'],
  },
  containerd: {
    module: CONTAINERD,
    programs: of(`${CONTAINERD}/cmd`, 'containerd', 'containerd-shim-runc-v2', 'ctr'),
    stamps: [`${CONTAINERD}/version.Version=VERSION`],
  },
  coredns: { module: 'github.com/coredns/coredns', programs: { coredns: '.' } },
  'cni-plugins': {
    module: PLUGINS,
    programs: {
      ...of(`${PLUGINS}/plugins/main`, 'bridge', 'loopback', 'ptp'),
      ...of(`${PLUGINS}/plugins/ipam`, 'host-local'),
      ...of(`${PLUGINS}/plugins/meta`, 'bandwidth', 'firewall', 'portmap', 'tuning'),
    },
  },
  etcd: { module: 'go.etcd.io/etcd/server/v3', programs: { etcd: 'go.etcd.io/etcd/server/v3' } },
} satisfies Record<string, Tool>

export type GoTool = keyof typeof TOOLS

/** What belongs to the machine and not to a user: an emptied environment finds it again. */
export const CACHE = process.env.TWILL_CACHE ?? '/var/cache/twill'

const sourceOf = (name: GoTool) => join(import.meta.dirname, name)

/** As go.mod requires it, without "v". */
export function goToolVersion(name: GoTool): string {
  const text = readFileSync(join(sourceOf(name), 'go.mod'), 'utf8')
  const { module } = TOOLS[name]
  const line = text.split('\n').find(each => each.replace('require', '').trim().startsWith(`${module} v`))
  if (line === undefined) throw new Error(`hack/go/${name}/go.mod: expected a line that requires ${module}`)
  return line.trim().replace(/^.* v/, '')
}

/** Where its programs are once they are built; a file of another go.sum is not among them. */
export function goToolFolder(name: GoTool): string {
  return join(CACHE, `${name}-${goToolVersion(name)}`, 'bin')
}

/** Those that are not there yet. */
export function missingGoPrograms(name: GoTool, wanted?: readonly string[]): string[] {
  const programs: Readonly<Record<string, string>> = TOOLS[name].programs
  const folder = goToolFolder(name)
  return (wanted ?? Object.keys(programs)).filter(program => !existsSync(join(folder, program)))
}

/**
 * The folder with the programs, after those that are missing were built.
 * @param wanted of its programs; default all
 * @throws Error: no Go and none to be had, a module that cannot be had, a program that does not compile
 */
export async function goTool(name: GoTool, wanted?: readonly string[]): Promise<string> {
  const folder = goToolFolder(name)
  const missing = missingGoPrograms(name, wanted)
  if (missing.length === 0) return folder
  mkdirSync(folder, { recursive: true })
  const go = await findGo(CACHE)
  for (const program of missing) {
    const begun = performance.now()
    process.stderr.write(`building ${program} of ${name} ${goToolVersion(name)}\n`)
    await build(name, program, go)
    process.stderr.write(`  built in ${Math.round((performance.now() - begun) / 1000)} s\n`)
  }
  return folder
}

/** One at a time on a machine, whoever asks: the compiler takes all of it anyway. */
async function build(name: GoTool, program: string, go: string): Promise<void> {
  const tool: Tool = TOOLS[name]
  const path = join(goToolFolder(name), program)
  const source = tool.programs[program]
  if (source === undefined) throw new Error(`${name} has no program ${program}`)
  const isTest = source.startsWith('test ')
  const stamps = (tool.stamps ?? []).map(stamp => `-X ${stamp.replace('VERSION', `v${goToolVersion(name)}`)}`)
  const fresh = `${path}.${createHash('sha256').update(String(process.pid)).digest('hex').slice(0, 8)}`
  const command = isTest ? ['test', '-c', '-vet=off'] : ['build']
  const linker = ['-s -w', ...stamps].join(' ')
  const output = ['-trimpath', '-ldflags', linker, '-o', fresh, source.replace(/^test /, '')]
  const lock = join(CACHE, 'build.lock')
  await run('flock', [lock, go, ...command, ...output], sourceOf(name), tool.cgo?.includes(program) ?? false)
  renameSync(fresh, path)
}

function run(program: string, args: readonly string[], cwd: string, cgo: boolean): Promise<void> {
  // Static, so that a program also runs in an image without a C library.
  const env = { ...process.env, CGO_ENABLED: cgo ? '1' : '0', GOFLAGS: '-buildvcs=false -mod=readonly' }
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, env, stdio: ['ignore', 'ignore', 'pipe'] })
    let complaint = ''
    child.stderr.on('data', chunk => {
      complaint = `${complaint}${chunk}`.slice(-4_000)
    })
    child.once('error', reject)
    child.once('close', code =>
      code === 0 ? resolve() : reject(new Error(`go ${args.slice(2).join(' ')}: ${complaint.trim()}`)),
    )
  })
}

if (process.argv[1] === import.meta.filename)
  for (const name of process.argv.slice(2)) {
    if (!(name in TOOLS)) throw new Error(`${name}: expected one of ${Object.keys(TOOLS).join(', ')}`)
    console.log(await goTool(name as GoTool))
  }
