/**
 * What the container image of Twill holds: Node with the bundles of dist/lib, the executables that the daemon installs
 * on the node, nftables and iptables with the libraries that they open, and the licences of it all.
 *
 * Invariant: no shell is in it, so that nothing can reach one. Trap: what is opened at run time (libnftables by koffi,
 * the matches of iptables by their names) is in no list of the loader's and is named here.
 */
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs'
import { join } from 'node:path'
import { VERSION } from '../../lib/version.ts'
import { LAUNCH } from '../launch.ts'
import type { Image, ImageConfig } from './archive.ts'
import type { Contents } from './contents.ts'
import { debianLicences, npmLicences } from './licences.ts'
import { findProgram, librariesOf } from './programs.ts'

/** Under this name manifests ask for it. */
export const TWILL_IMAGE = `twill.network/twilld:${VERSION}`

const NODE = '/usr/bin/node'
const HOME = '/opt/twill'
const BUNDLES = ['twilld', 'kernel-worker', 'twillctl'] as const
const EXECUTABLES = ['twill', 'twill-ipam', 'twill-offline'] as const

const IPTABLES = ['legacy', 'nft'].flatMap(variant =>
  ['iptables', 'ip6tables'].flatMap(program =>
    ['', '-restore', '-save'].map(verb => ({
      link: `/usr/sbin/${program}-${variant}${verb}`,
      program: `xtables-${variant}-multi`,
    })),
  ),
)

/** @param root of the repository, built. @throws Error naming what is not there */
export function twillImage(root: string): Image {
  const machine = { ...node(), ...nftables(), ...iptables() }
  const files = Object.values(machine).flatMap(entry => ('file' in entry ? [entry.file] : []))
  const contents: Contents = {
    ...machine,
    ...debianLicences(files),
    ...ours(root),
    ...koffi(root),
    ...npmLicences(bundledFiles(root), '/usr/share/doc/twill/npm'),
    '/usr/share/doc/twill/copyright': { file: join(root, 'LICENSE') },
    '/etc/protocols': { file: '/etc/protocols' },
    // The paths of namespaces that runtimes give begin with either.
    '/var/run': { link: '/run' },
    '/run': { folder: true },
  }
  return { tags: [TWILL_IMAGE], layers: [contents], config: CONFIG }
}

/** Flags of twilld follow the entry point, as a pod's `args`. */
const CONFIG: ImageConfig = {
  Entrypoint: [NODE, ...LAUNCH.twilld.nodeFlags, `${HOME}/lib/twilld.mjs`],
  Env: [
    'PATH=/usr/sbin:/usr/bin',
    'NODE_ENV=production',
    ...Object.entries(LAUNCH.twilld.environment).map(([name, value]) => `${name}=${value}`),
  ],
  WorkingDir: '/',
}

function ours(root: string): Contents {
  const built = (path: string) => {
    const file = join(root, 'dist', path)
    if (!existsSync(file)) throw new Error(`${file} is not there: run hack/build`)
    return { file }
  }
  const proto = readdirSync(join(root, 'dist/proto'))
  return {
    ...Object.fromEntries(BUNDLES.map(name => [`${HOME}/lib/${name}.mjs`, built(`lib/${name}.mjs`)])),
    ...Object.fromEntries(proto.map(name => [`${HOME}/proto/${name}`, built(`proto/${name}`)])),
    ...Object.fromEntries(
      EXECUTABLES.map(name => [`${HOME}/bin/${name}`, { ...built(`bin/${name}`), mode: 0o755 }]),
    ),
    '/usr/bin/twillctl': started('twillctl'),
    '/usr/bin/twilld': started('twilld'),
  }
}

/** For `kubectl exec`: the kernel itself reads the first line. */
const started = (name: string) => ({
  text: `#!${NODE}\nimport('${HOME}/lib/${name}.mjs')\n`,
  mode: 0o755,
})

function node(): Contents {
  const file = realpathSync(process.execPath)
  return { [NODE]: { file, mode: 0o755 }, ...librariesOf(file) }
}

function nftables(): Contents {
  const file = findProgram('nft')
  const libraries = librariesOf(file)
  if (!Object.keys(libraries).some(path => path.endsWith('/libnftables.so.1')))
    throw new Error(`${file} is not linked with libnftables.so.1: the daemon would not find it`)
  return { '/usr/sbin/nft': { file }, ...libraries }
}

function iptables(): Contents {
  const programs = [...new Set(IPTABLES.map(({ program }) => program))].map(findProgram)
  const matches = readdirSync(XTABLES)
    .filter(name => name.endsWith('.so'))
    .map(name => `${XTABLES}/${name}`)
  return {
    ...Object.assign({}, ...programs.map(librariesOf)),
    ...Object.fromEntries(programs.map(file => [file, { file }])),
    ...Object.fromEntries(IPTABLES.map(({ link, program }) => [link, { link: program }])),
    ...Object.fromEntries(matches.map(file => [file, { file: realpathSync(file) }])),
  }
}

const MULTIARCH: Readonly<Record<string, string>> = { x64: 'x86_64', arm64: 'aarch64' }
const XTABLES = `/usr/lib/${MULTIARCH[process.arch]}-linux-gnu/xtables`

/** The one package that is not in the bundles: its native part is a file of its own. */
function koffi(root: string): Contents {
  const modules = join(root, 'node_modules')
  const platform = `@koromix/koffi-linux-${process.arch}`
  const native = `${platform}/linux_${process.arch}/koffi.node`
  const scripts = readdirSync(join(modules, 'koffi'), { recursive: true, encoding: 'utf8' })
    .filter(name => /^[^/]*\.c?js$|^src\/.*\.c?js$/.test(name))
    .map(name => `koffi/${name}`)
  const files = ['koffi/package.json', `${platform}/package.json`, `${platform}/index.js`, native, ...scripts]
  return {
    ...Object.fromEntries(files.map(name => [`${HOME}/node_modules/${name}`, { file: join(modules, name) }])),
    ...librariesOf(join(modules, native)),
  }
}

/** Of the bundles by what was recorded when they were made, of the executable by what it is made with. */
function bundledFiles(root: string): string[] {
  const inputs = BUNDLES.flatMap(name => {
    const stamp = JSON.parse(readFileSync(join(root, `dist/stamps/${name}.json`), 'utf8')) as {
      inputs: string[]
    }
    return stamp.inputs
  })
  const whole = ['koffi', 'bun', 'etcd3'].map(name => `node_modules/${name}/package.json`)
  return [...inputs, ...whole].map(input => join(root, input))
}
