import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { CniError } from '../../../cni-bin/cni-error.ts'
import type { JsonObject } from '../../../cni-bin/json.ts'
import {
  addOutput,
  type CniResult,
  errorOutput,
  mergeResults,
  NO_DNS,
  parseResult,
} from '../../../cni-bin/result.ts'
import { SUPPORTED_VERSIONS } from '../../../cni-bin/version.ts'

const EMPTY: CniResult = { interfaces: [], ips: [], routes: [], dns: NO_DNS }

/** Every member that 1.1.0 knows. */
const FULL: JsonObject = {
  cniVersion: '1.1.0',
  interfaces: [
    { name: 'a', mac: '02:00:00:00:00:01', mtu: 1400, socketPath: '/s', pciID: '0:1' },
    { name: 'b', sandbox: '/run/netns/x' },
  ],
  ips: [
    { address: '10.0.0.1/24', gateway: '10.0.0.254', interface: 1 },
    { address: 'fd00::1/64', interface: 0 },
  ],
  routes: [{ dst: '0.0.0.0/0', gw: '10.0.0.254', mtu: 1, advmss: 2, priority: 3, table: 4, scope: 253 }],
  dns: { nameservers: ['1.1.1.1'], domain: 'd', search: ['s'], options: ['o'] },
}

test('CNI-112: a result of 1.1.0 goes through unchanged', () => {
  assert.equal(JSON.parse(addOutput(parseResult(FULL, 'prevResult'), '1.1.0')), FULL)
})

test('CNI-070 CNI-069: what a version prints, the next call reads, at every version', () => {
  for (const version of SUPPORTED_VERSIONS) {
    const printed = addOutput(parseResult(FULL, 'p'), version)
    assert.is(JSON.parse(printed).cniVersion, version)
    assert.is(addOutput(parseResult(JSON.parse(printed), 'p'), version), printed)
  }
})

test('CNI-075 CNI-078: before 1.1.0 newer members are left out, also of routes', () => {
  const old = JSON.parse(addOutput(parseResult(FULL, 'p'), '1.0.0'))
  assert.equal(old.interfaces[0], { name: 'a', mac: '02:00:00:00:00:01' })
  assert.equal(old.routes, [{ dst: '0.0.0.0/0', gw: '10.0.0.254' }])
  assert.is(old.ips[0].version, undefined)
})

test('CNI-076: before 1.0.0 each address says its version as text', () => {
  for (const version of ['0.3.0', '0.3.1', '0.4.0'] as const) {
    const { ips } = JSON.parse(addOutput(parseResult(FULL, 'p'), version))
    assert.equal(
      ips.map((each: { version: string }) => each.version),
      ['4', '6'],
    )
  }
})

test('CNI-074: nothing is printed for what is empty', () => {
  assert.equal(JSON.parse(addOutput(EMPTY, '1.1.0')), { cniVersion: '1.1.0' })
})

test('CNI-074: an interface index of 0 and a scope of 0 are something', () => {
  const result = parseResult(
    {
      interfaces: [{ name: 'a' }],
      ips: [{ address: '10.0.0.1/32', interface: 0 }],
      routes: [{ dst: '::/0', scope: 0 }],
    },
    'p',
  )
  const printed = JSON.parse(addOutput(result, '1.1.0'))
  assert.is(printed.ips[0].interface, 0)
  assert.is(printed.routes[0].scope, 0)
})

test('CNI-253: indices of what is appended move, those of the predecessor stay', () => {
  const own: CniResult = {
    ...EMPTY,
    interfaces: parseResult({ interfaces: [{ name: 'own' }] }, 'p').interfaces,
    ips: [
      { address: '10.1.0.1/32', gateway: null, interface: 0 },
      { address: '10.1.0.2/32', gateway: null, interface: null },
    ],
  }
  const merged = mergeResults(parseResult(FULL, 'p'), own)
  assert.equal(
    merged.ips.map(each => each.interface),
    [1, 0, 2, null],
  )
  assert.is(merged.interfaces[2]?.name, 'own')
})

test('CNI-118: our dns wins as a whole if it says anything', () => {
  const previous = parseResult(FULL, 'p')
  assert.equal(mergeResults(previous, EMPTY).dns, previous.dns)
  const dns = { ...NO_DNS, search: ['ours'] }
  assert.equal(mergeResults(previous, { ...EMPTY, dns }).dns, dns)
})

test('CNI-098: what cannot be a result is refused, by path', () => {
  const refused: [JsonObject, RegExp][] = [
    [{ interfaces: {} }, /p\.interfaces/],
    [{ interfaces: [{}] }, /p\.interfaces\[0\]\.name/],
    [{ interfaces: [{ name: 'a', mtu: 1.5 }] }, /mtu/],
    [{ ips: [{ address: '10.0.0.1/33' }] }, /p\.ips\[0\]\.address/],
    [{ ips: [{ address: '10.0.0.1/32', gateway: 'x' }] }, /gateway/],
    [{ ips: [{ address: '10.0.0.1/32', interface: 0 }] }, /interface/],
    [{ routes: [{ dst: '10.0.0.1' }] }, /p\.routes\[0\]\.dst/],
    [{ routes: [{ dst: '::/0', table: -1 }] }, /table/],
    [{ dns: [] }, /p\.dns/],
  ]
  for (const [json, path] of refused) assert.throws(() => parseResult(json, 'p'), path)
})

test('CNI-090 CNI-104: an error has its members on one line each, details only if there are', () => {
  assert.equal(JSON.parse(errorOutput(new CniError(11, 'a\r\n b', 'c\u0000\nd'), '0.4.0')), {
    cniVersion: '0.4.0',
    code: 11,
    msg: 'a b',
    details: 'c d',
  })
  assert.equal(JSON.parse(errorOutput(new CniError(7, 'a'), '1.0.0')), {
    cniVersion: '1.0.0',
    code: 7,
    msg: 'a',
  })
})

test.run()
