/**
 * Builds dist/: bundles of the Node programs in dist/lib, their launchers in dist/bin, and the CNI executables
 * (hack/build-cni). A part is built again only if the source it was made of has changed; files appear by rename, so
 * that a running program never reads half of one.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { build, type Metafile, type Plugin } from 'esbuild'
import { LAUNCH } from './launch.ts'

const OUT = 'dist'

/** Entry to bundle; programs get a launcher of that name in dist/bin. */
const BUNDLES = [
  { entry: 'daemon/main.ts', name: 'twilld', program: true },
  { entry: 'cli/main.ts', name: 'twillctl', program: true },
  { entry: 'kernel/worker/main.ts', name: 'kernel-worker', program: false },
] as const

/** Packages with native parts stay in node_modules. Any other costs the daemon more memory there than in the bundle. */
const EXTERNAL = ['koffi', 'raw-socket', 'bun', 'esbuild']

/** CommonJS packages inside an ES module need what such a module has in scope. */
const BANNER = `import { createRequire as __createRequire } from 'node:module'
import { dirname as __dirOf } from 'node:path'
import { fileURLToPath as __toPath } from 'node:url'
const require = __createRequire(import.meta.url), __filename = __toPath(import.meta.url), __dirname = __dirOf(__filename)`

/** etcd3 reads these when it is loaded, from ../proto as seen from the bundle. */
const PROTO = 'node_modules/etcd3/proto'

/** zod brings its messages in fifty languages; who imports `z` imports them all. */
const ENGLISH_ONLY: Plugin = {
  name: 'english-only',
  setup(bundling) {
    bundling.onLoad({ filter: /zod[/]v4[/]locales[/]index\.js$/ }, () => ({
      contents: "export { default as en } from './en.js'",
      loader: 'js',
    }))
  },
}

const CNI_SOURCES = [
  'cni-bin',
  'lib',
  'kernel/netlink',
  'kernel/ownership.ts',
  'daemon/spool',
  'hack/build-cni',
]

interface Stamp {
  inputs: string[]
  digest: string
}

function digestOf(files: string[]): string {
  const hash = createHash('sha256')
  for (const file of files) hash.update(`${file}\0`).update(existsSync(file) ? readFileSync(file) : 'absent')
  return hash.digest('hex')
}

const stampFile = (name: string) => join(OUT, 'stamps', `${name}.json`)

function isCurrent(name: string, outputs: string[]): boolean {
  if (!outputs.every(path => existsSync(path)) || !existsSync(stampFile(name))) return false
  const stamp = JSON.parse(readFileSync(stampFile(name), 'utf8')) as Stamp
  return digestOf(stamp.inputs) === stamp.digest
}

function writeStamp(name: string, stamp: Stamp): void {
  mkdirSync(join(OUT, 'stamps'), { recursive: true })
  place(stampFile(name), JSON.stringify(stamp), 0o644)
}

/** Mode before rename: nobody sees the file without it. */
function place(path: string, content: string | Uint8Array, mode: number): void {
  const temporary = `${path}.${process.pid}`
  writeFileSync(temporary, content)
  chmodSync(temporary, mode)
  renameSync(temporary, path)
}

/** The build itself is an input: what it does decides the output. */
const inputsOf = (metafile: Metafile): string[] =>
  [...Object.keys(metafile.inputs), 'hack/build.ts', 'package-lock.json'].sort()

async function bundle(entry: string, name: string): Promise<boolean> {
  const output = join(OUT, 'lib', `${name}.mjs`)
  if (isCurrent(name, [output, `${output}.map`])) return false
  const result = await build({
    entryPoints: [entry],
    outfile: output,
    bundle: true,
    platform: 'node',
    target: 'node20.19',
    format: 'esm',
    external: EXTERNAL,
    banner: { js: BANNER },
    plugins: [ENGLISH_ONLY],
    // Names stay: they stand in logs and stack traces.
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: 'none',
    sourcemap: 'external',
    metafile: true,
    write: false,
    logLevel: 'silent',
  })
  mkdirSync(join(OUT, 'lib'), { recursive: true })
  for (const file of [...result.outputFiles].reverse()) place(file.path, file.contents, 0o644)
  const inputs = inputsOf(result.metafile)
  writeStamp(name, { inputs, digest: digestOf(inputs) })
  return true
}

/** Node is the one that built, or the one in PATH once that is gone. The launcher may be called by a link. */
function launcher(name: keyof typeof LAUNCH): string {
  const { nodeFlags, environment } = LAUNCH[name]
  const variables = Object.entries(environment).map(([variable, value]) => `${variable}=${value}`)
  return `#!/bin/sh
node='${process.execPath}'
[ -x "$node" ] || node=node
self=$0
[ ! -L "$self" ] || self=$(readlink -f -- "$self")
${variables.length > 0 ? `export ${variables.join(' ')}` : ''}
exec "$node" ${nodeFlags.join(' ')} "\${self%/*}/../lib/${name}.mjs" "$@"
`
    .replace(/ {2,}/g, ' ')
    .replace('\n\n', '\n')
}

function placeProto(): void {
  mkdirSync(join(OUT, 'proto'), { recursive: true })
  for (const name of readdirSync(PROTO)) {
    const content = readFileSync(join(PROTO, name))
    const path = join(OUT, 'proto', name)
    if (!existsSync(path) || !readFileSync(path).equals(content)) place(path, content, 0o644)
  }
}

function placeLauncher(name: keyof typeof LAUNCH): void {
  const path = join(OUT, 'bin', name)
  const content = launcher(name)
  if (existsSync(path) && readFileSync(path, 'utf8') === content) return
  mkdirSync(join(OUT, 'bin'), { recursive: true })
  place(path, content, 0o755)
}

function sourcesOf(paths: string[]): string[] {
  const existing = paths.filter(path => existsSync(path))
  const listed = execFileSync('find', [...existing, '-type', 'f'], { encoding: 'utf8' })
  return [...listed.trim().split('\n'), 'package-lock.json'].sort()
}

function buildCni(): boolean {
  const outputs = ['twill', 'twill-ipam', 'twill-offline'].map(name => join(OUT, 'bin', name))
  if (isCurrent('cni', outputs)) return false
  const inputs = sourcesOf(CNI_SOURCES)
  const digest = digestOf(inputs)
  execFileSync('hack/build-cni', [join(OUT, 'bin')], { stdio: 'inherit' })
  writeStamp('cni', { inputs, digest })
  return true
}

/** @returns false if it failed, after saying why; the other parts are built all the same. */
async function step(name: string, work: () => boolean | Promise<boolean>): Promise<boolean> {
  const begin = performance.now()
  try {
    if (await work()) console.log(`build: ${name} ${((performance.now() - begin) / 1000).toFixed(1)} s`)
    return true
  } catch (error) {
    console.error(`build: ${name}: ${(error as Error).message}`)
    return false
  }
}

const built: boolean[] = []
placeProto()
for (const { entry, name, program } of BUNDLES) {
  if (program) placeLauncher(name)
  built.push(await step(`dist/lib/${name}.mjs`, () => bundle(entry, name)))
}
built.push(await step('dist/bin/twill, dist/bin/twill-ipam, dist/bin/twill-offline', buildCni))
process.exit(built.every(Boolean) ? 0 : 1)
