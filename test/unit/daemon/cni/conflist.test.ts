import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { SUPPORTED_VERSIONS } from '../../../../cni-bin/version.ts'
import type { ChainedPlugin } from '../../../../daemon/cni/chain.ts'
import { conflistText, installConflist } from '../../../../daemon/cni/conflist.ts'

const TODAY = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0']
const OLDER = TODAY.filter(version => version !== '1.1.0')
const BOTH: readonly ChainedPlugin[] = [
  { name: 'portmap', versions: TODAY },
  { name: 'bandwidth', versions: TODAY },
]
const ANNOTATIONS = { 'io.kubernetes.cri.pod-annotations': true }

const listOf = (chain: readonly ChainedPlugin[]) => JSON.parse(conflistText('pods', chain))

test('CNI-068 old runtimes get 1.0.0, new ones may choose, from what we speak', () => {
  const list = listOf(BOTH)
  assert.is(list.cniVersion, '1.0.0')
  for (const version of list.cniVersions) assert.ok(SUPPORTED_VERSIONS.includes(version), version)
  assert.ok(list.cniVersions.includes('1.1.0'))
})

test('CNI-068 nothing is offered that a plugin of the chain does not speak', () => {
  const older = listOf([BOTH[0]!, { name: 'bandwidth', versions: OLDER }])
  assert.equal([older.cniVersion, older.cniVersions], ['1.0.0', ['0.3.1', '0.4.0', '1.0.0']])
  const old = listOf([{ name: 'portmap', versions: ['0.3.1', '0.4.0'] }])
  assert.equal([old.cniVersion, old.cniVersions], ['0.4.0', ['0.3.1', '0.4.0']])
  const newest = listOf([{ name: 'portmap', versions: ['1.1.0', '1.2.0'] }])
  assert.equal([newest.cniVersion, newest.cniVersions], ['1.1.0', ['1.1.0']])
})

test('CNI-045 CNI-260 CNI-263 a list with the network, twill first, capabilities declared where they are served', () => {
  const list = listOf(BOTH)
  assert.is(list.name, 'pods')
  assert.equal(list.plugins, [
    { type: 'twill', capabilities: ANNOTATIONS },
    { type: 'portmap', capabilities: { portMappings: true } },
    { type: 'bandwidth', capabilities: { bandwidth: true } },
  ])
})

test('CNI-210 what nobody in the chain serves is declared by twill, which refuses it', () => {
  assert.equal(listOf(BOTH.slice(1)).plugins, [
    { type: 'twill', capabilities: { ...ANNOTATIONS, portMappings: true } },
    { type: 'bandwidth', capabilities: { bandwidth: true } },
  ])
  assert.equal(listOf([]).plugins, [
    { type: 'twill', capabilities: { ...ANNOTATIONS, portMappings: true, bandwidth: true } },
  ])
})

test('CNI-262 CNI-264 the file appears whole, under its name only, and is not rewritten for nothing', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'twsc-'))
  const text = conflistText('pods', BOTH)
  try {
    const path = join(folder, 'net.d', '10-twill.conflist')
    assert.is(await installConflist(path, text), true)
    assert.equal(readdirSync(join(folder, 'net.d')), ['10-twill.conflist'])
    assert.is(await installConflist(path, text), false)
    writeFileSync(path, '{')
    assert.is(await installConflist(path, text), true)
    assert.is(readFileSync(path, 'utf8'), text)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('links at its place and at that of the temporary file are replaced, and what they lead to stays', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'twsc-'))
  const [path, theirs] = [join(folder, '10-twill.conflist'), join(folder, 'theirs')]
  const text = conflistText('pods', BOTH)
  try {
    // Also where it says what it should: in a container a link leads elsewhere than on the node.
    for (const content of ['theirs', text]) {
      writeFileSync(theirs, content)
      for (const each of [path, `${path}.new`]) {
        rmSync(each, { force: true })
        symlinkSync(theirs, each)
      }
      assert.is(await installConflist(path, text), true)
      assert.is(readFileSync(theirs, 'utf8'), content)
      assert.ok(lstatSync(path).isFile())
      assert.is(readFileSync(path, 'utf8'), text)
      assert.equal(readdirSync(folder), ['10-twill.conflist', 'theirs'])
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('what cannot be put in its place leaves nothing beside it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'twsc-'))
  const path = join(folder, '10-twill.conflist')
  try {
    mkdirSync(join(path, 'theirs'), { recursive: true })
    await installConflist(path, '{}').then(
      () => assert.unreachable(),
      error => assert.match(error.message, /EISDIR|ENOTEMPTY|EEXIST/),
    )
    assert.equal(readdirSync(folder), ['10-twill.conflist'])
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test.run()
