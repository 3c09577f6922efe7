/** What twill-offline loads before it has asked the daemon: each node: module takes as long as all the rest. */
import { build } from 'esbuild'
import { test } from 'uvu'
import * as assert from 'uvu/assert'

/** Entry and everything it imports statically, as [module, what it imports of others' code]. */
async function loadedAtStart(entry: string): Promise<{ own: string[]; foreign: string[] }> {
  const { metafile } = await build({
    entryPoints: [entry],
    bundle: true,
    platform: 'node',
    format: 'esm',
    external: ['bun:ffi'],
    metafile: true,
    write: false,
    logLevel: 'silent',
  })
  const own = new Set([entry])
  const foreign = new Set<string>()
  for (const module of own)
    for (const { path, kind, external } of metafile.inputs[module]?.imports ?? [])
      if (kind === 'import-statement') (external ? foreign : own).add(path)
  return { own: [...own].sort(), foreign: [...foreign].sort() }
}

test('a call that the daemon answers loads bun:ffi and the few files it needs', async () => {
  const { own, foreign } = await loadedAtStart('cni-bin/main.ts')
  assert.equal(foreign, ['bun:ffi'])
  assert.equal(own, [
    'cni-bin/daemon-client.ts',
    'cni-bin/frame.ts',
    'cni-bin/invocation.ts',
    'cni-bin/libc.ts',
    'cni-bin/main.ts',
    'lib/errors.ts',
  ])
})

test.run()
