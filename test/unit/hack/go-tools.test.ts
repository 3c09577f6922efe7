/** The tools written in Go: what they are built from is pinned, and what is built is found again by its version. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type GoTool, goToolFolder, goToolVersion, missingGoPrograms } from '../../../hack/go/tools.ts'

const NAMES: readonly GoTool[] = ['kubernetes', 'containerd', 'coredns', 'cni-plugins', 'etcd']
const SOURCES = join(import.meta.dirname, '../../../hack/go')

for (const name of NAMES)
  test(`${name}: its module's version and sums are written down, and its folder bears the version`, () => {
    const version = goToolVersion(name)
    assert.match(version, /^\d+\.\d+\.\d+$/)
    assert.ok(goToolFolder(name).endsWith(`/${name}-${version}/bin`))
    const sums = readFileSync(join(SOURCES, name, 'go.sum'), 'utf8')
    assert.ok(sums.includes(` v${version} h1:`), 'go.sum has the module itself')
  })

test('staging modules of Kubernetes have the version that belongs to it', () => {
  const text = readFileSync(join(SOURCES, 'kubernetes/go.mod'), 'utf8')
  const replaced = [...text.matchAll(/=> k8s\.io\/[a-z-]+ v(\S+)/g)].map(([, version]) => version)
  assert.ok(replaced.length > 30)
  assert.equal([...new Set(replaced)], [goToolVersion('kubernetes').replace(/^1\./, '0.')])
})

test('a program that is there is not missing, another is', () => {
  const folder = goToolFolder('etcd')
  const had = existsSync(join(folder, 'etcd'))
  assert.equal(missingGoPrograms('etcd'), had ? [] : ['etcd'])
  assert.equal(missingGoPrograms('etcd', ['no-such-program']), ['no-such-program'])
})

test.run()
