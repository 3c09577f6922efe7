import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { SUPPORTED_VERSIONS } from '../../../cni-bin/version.ts'
import { conflistText, installConflist } from '../../../daemon/conflist.ts'

test('CNI-068 old runtimes get 1.0.0, new ones may choose, from what we speak', () => {
  const list = JSON.parse(conflistText('pods'))
  assert.is(list.cniVersion, '1.0.0')
  for (const version of list.cniVersions) assert.ok(SUPPORTED_VERSIONS.includes(version), version)
  assert.ok(list.cniVersions.includes('1.1.0'))
})

test('CNI-045 CNI-260 CNI-263 a list with the network, twill first, capabilities declared where they are served', () => {
  const list = JSON.parse(conflistText('pods'))
  assert.is(list.name, 'pods')
  assert.equal(list.plugins, [
    { type: 'twill', capabilities: { 'io.kubernetes.cri.pod-annotations': true } },
    { type: 'portmap', capabilities: { portMappings: true } },
  ])
})

test('CNI-262 CNI-264 the file appears whole, under its name only, and is not rewritten for nothing', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'twsc-'))
  try {
    const path = join(folder, 'net.d', '10-twill.conflist')
    assert.is(await installConflist(path, conflistText('pods')), true)
    assert.equal(readdirSync(join(folder, 'net.d')), ['10-twill.conflist'])
    assert.is(await installConflist(path, conflistText('pods')), false)
    writeFileSync(path, '{')
    assert.is(await installConflist(path, conflistText('pods')), true)
    assert.is(readFileSync(path, 'utf8'), conflistText('pods'))
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test.run()
