/**
 * The images that pods of a rig run, put together from programs of this machine: those that Kubernetes' own suite asks
 * for under the names that it asks for, the sandbox's and CoreDNS. No registry is needed.
 *
 * Invariant: the archive's name says what is in it, so that one that is there is one that fits. Trap: Debian's busybox
 * as a shell runs its own `nc` and `nslookup` before those of the PATH; where these are wanted, the shell is dash.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { goTool } from '../../go/tools.ts'
import { type Image, writeArchive } from '../../image/archive.ts'
import { type Contents, fingerprint } from '../../image/contents.ts'
import { findProgram, programs } from '../../image/programs.ts'
import { IMAGES_FOLDER, moveInto } from './cache.ts'

const REGISTRY = 'registry.k8s.io'
const SUITE = `${REGISTRY}/e2e-test-images`

/** The suite's tags are what `e2e.test --list-images` of Kubernetes 1.36.2 says. */
export const IMAGES = {
  agnhost: `${SUITE}/agnhost:2.63.0`,
  glibcDnsTesting: `${SUITE}/glibc-dns-testing:2.0.0`,
  busybox: `${SUITE}/busybox:1.37.0-1`,
  nginx: `${SUITE}/nginx:1.15-4`,
  pause: `${REGISTRY}/pause:3.10.2`,
  coredns: 'localhost/coredns:rig',
} as const

const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** Programs that tests run in agnhost's and glibc-dns-testing's pods, instead of busybox's of the same names. */
const NETWORK_PROGRAMS = ['curl', 'dig', 'nslookup', 'nc', 'getent', 'ss']

/**
 * An archive with all of them, made where it is missing.
 * @throws Error: a program that is not there and cannot be built
 */
export async function imagesArchive(): Promise<string> {
  const images = await kubernetesImages()
  const archive = join(IMAGES_FOLDER, `kubernetes-${nameOf(images)}.tar`)
  if (existsSync(archive)) return archive
  writeArchive(archive, images)
  return archive
}

async function kubernetesImages(): Promise<Image[]> {
  const [kubernetes, coredns] = [await goTool('kubernetes', ['agnhost']), await goTool('coredns')]
  const [base, network] = [busybox(), networkPrograms()]
  const agnhost = [base, network, agnhostLayer(join(kubernetes, 'agnhost'))]
  const shell = { Cmd: ['sh'], Env: [PATH] }
  return [
    { tags: [IMAGES.busybox], layers: [base], config: shell },
    {
      tags: [IMAGES.nginx],
      layers: [base, WEB],
      config: { Cmd: ['httpd', '-f', '-h', '/www'], Env: [PATH] },
    },
    { tags: [IMAGES.glibcDnsTesting], layers: [base, network], config: shell },
    {
      tags: [IMAGES.agnhost],
      layers: agnhost,
      config: { Entrypoint: ['/agnhost'], Cmd: ['pause'], Env: [PATH] },
    },
    {
      tags: [IMAGES.pause],
      layers: [{ '/pause': { file: pauseProgram() } }],
      config: { Entrypoint: ['/pause'] },
    },
    { tags: [IMAGES.coredns], layers: [corednsLayer(coredns)], config: { Entrypoint: ['/coredns'] } },
  ]
}

const ACCOUNTS: Contents = {
  '/etc/passwd': {
    text: `root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
user-defined-in-image:x:1000:1000::/:/bin/sh
`,
  },
  '/etc/group': {
    text: `root:x:0:
nogroup:x:65534:
group-defined-in-image:x:50000:user-defined-in-image
`,
  },
}

const WEB: Contents = { '/www/index.html': { text: '<h1>It works</h1>\n' } }

function busybox(): Contents {
  const listed = execFileSync('/bin/busybox', ['--list'], { encoding: 'utf8' }).trim().split('\n')
  const names = listed.filter(name => name !== 'busybox')
  return {
    ...ACCOUNTS,
    ...Object.fromEntries(names.map(name => [`/bin/${name}`, { link: 'busybox' }])),
    '/bin/busybox': { file: '/bin/busybox' },
    '/etc/nsswitch.conf': { text: 'hosts: files dns\n' },
    '/root': { folder: true },
    '/tmp': { folder: true, mode: 0o1777 },
  }
}

function networkPrograms(): Contents {
  return { ...programs([...NETWORK_PROGRAMS, 'dash'], '/usr/bin'), '/bin/sh': { link: '/usr/bin/dash' } }
}

function agnhostLayer(program: string): Contents {
  const { certificate, key } = porterCertificate()
  return {
    '/agnhost': { file: program },
    // Another name by which tests start it.
    '/agnhost-2': { link: 'agnhost' },
    '/localhost.crt': { file: certificate },
    '/localhost.key': { file: key, mode: 0o644 },
    '/uploads': { folder: true },
  }
}

function corednsLayer(folder: string): Contents {
  return { '/coredns': { file: join(folder, 'coredns') }, '/tmp': { folder: true, mode: 0o1777 } }
}

/** agnhost's porter serves TLS with it. Nobody verifies it; made once, since each is another. */
function porterCertificate(): { certificate: string; key: string } {
  const folder = join(IMAGES_FOLDER, 'porter')
  const made = { certificate: join(folder, 'localhost.crt'), key: join(folder, 'localhost.key') }
  if (existsSync(folder)) return made
  const fresh = `${folder}.${process.pid}`
  mkdirSync(fresh, { recursive: true })
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-days', '36500']
  const files = ['-keyout', join(fresh, 'localhost.key'), '-out', join(fresh, 'localhost.crt')]
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', ...subject, ...files], {
    stdio: 'ignore',
  })
  moveInto(fresh, folder)
  return made
}

/** Compiled once for its source. Static: there is nothing else in the image. */
function pauseProgram(): string {
  const source = join(import.meta.dirname, 'pause.c')
  const program = join(IMAGES_FOLDER, `pause-${fingerprint({ '/pause': { file: source } }).slice(0, 16)}`)
  if (existsSync(program)) return program
  mkdirSync(IMAGES_FOLDER, { recursive: true })
  const fresh = `${program}.${process.pid}`
  execFileSync(findProgram('gcc'), ['-Os', '-s', '-static', '-Wall', '-Werror', '-o', fresh, source])
  renameSync(fresh, program)
  return program
}

function nameOf(images: readonly Image[]): string {
  const parts = images.map(image => [image.tags, image.config, image.layers.map(fingerprint)])
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16)
}
