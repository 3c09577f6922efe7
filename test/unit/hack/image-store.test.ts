/** What containerd has imported is kept for nodes of other rigs: made once, linked but for databases, the oldest removed. */
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

const root = mkdtempSync(join(tmpdir(), 'twst-'))
process.env.TWILL_CACHE = join(root, 'cache')
const { hasImages, imageStore, importMissing, putImages } = await import(
  '../../../hack/rig/kubernetes/image-store.ts'
)

const test = suite('store of images')
test.after(() => rmSync(root, { recursive: true }))

const METADATA = 'io.containerd.metadata.v1.bolt/meta.db'
const blobOf = (archive: string) => `io.containerd.content.v1.content/blobs/${archive.replaceAll('/', '-')}`

class FakeMachine {
  readonly #folder: string
  readonly imported: string[] = []

  constructor(name: string) {
    this.#folder = join(root, name)
  }

  disk(inside: string): string {
    return join(this.#folder, inside)
  }

  path(inside: string): string {
    return this.disk(join('/var/lib/containerd', inside))
  }

  put(inside: string, text: string): void {
    mkdirSync(dirname(this.path(inside)), { recursive: true })
    writeFileSync(this.path(inside), text)
  }

  /** Writes as containerd does: blobs are added, the database is written in place. */
  get containerd() {
    return {
      version: '1.6' as const,
      up: async () => this.put('io.containerd.runtime.v2.task/here', ''),
      down: async () => rmSync(this.path('io.containerd.runtime.v2.task'), { recursive: true }),
      importImages: async (archive: string) => {
        this.imported.push(archive)
        this.put(blobOf(archive), archive)
        this.put(METADATA, this.imported.join())
      },
    }
  }
}

const make = (machine: FakeMachine, ...archives: string[]) =>
  imageStore(archives, { machine, containerd: machine.containerd })

const inode = (path: string) => statSync(path).ino

test('it is made once, from the one with all archives but the last; the machine keeps nothing', async () => {
  const [first, second] = [new FakeMachine('first'), new FakeMachine('second')]
  const store = await make(first, '/cache/a.tar', '/cache/b.tar')
  assert.equal(first.imported, ['/cache/a.tar', '/cache/b.tar'])
  assert.equal(readdirSync(first.path('')), [])
  assert.is(await make(second, '/elsewhere/a.tar', '/cache/b.tar'), store)
  assert.equal(second.imported, [])
  const other = await make(second, '/cache/a.tar', '/cache/c.tar')
  assert.equal(second.imported, ['/cache/c.tar'])
  assert.is(inode(join(other, blobOf('/cache/a.tar'))), inode(join(store, blobOf('/cache/a.tar'))))
})

test('a node has its blobs as links and its databases as copies, and imports only what is not in it', async () => {
  const store = await make(new FakeMachine('third'), '/cache/a.tar', '/cache/b.tar')
  const node = new FakeMachine('node')
  assert.not.ok(hasImages(node))
  await putImages(node, store)
  assert.ok(hasImages(node))
  assert.is(inode(node.path(blobOf('/cache/b.tar'))), inode(join(store, blobOf('/cache/b.tar'))))
  const written = () => [METADATA, 'rig-imported'].map(name => readFileSync(join(store, name), 'utf8'))
  const before = written()
  const modules = { machine: node, containerd: node.containerd }
  await importMissing(['/cache/a.tar', '/cache/b.tar', '/cache/d.tar'], modules)
  await importMissing(['/cache/d.tar'], modules)
  assert.equal(node.imported, ['/cache/d.tar'])
  assert.equal(written(), before)
  assert.not.ok(readdirSync(dirname(join(store, blobOf('x')))).includes('-cache-d.tar'))
})

test('of many, those that were not used for longest go', async () => {
  const machine = new FakeMachine('busy')
  const used = await make(machine, '/cache/a.tar')
  utimesSync(used, 0, 0)
  for (let i = 0; i < 8; i++) {
    await make(machine, '/cache/a.tar', `/cache/build-${i}.tar`)
    assert.ok(statSync(used).mtimeMs > 0)
  }
  assert.is(readdirSync(join(root, 'cache/images')).length, 6)
})

test.run()
