import fc from 'fast-check'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { podMtu, tunnelMtu, vtepMac } from '../../../../routing/vxlan/vtep.ts'

test('the MAC is unicast, locally administered, the same for ever, and another for another node', () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (a, b) => {
      const mac = vtepMac(a)
      assert.match(mac, /^[0-9a-f]([26ae])(:[0-9a-f]{2}){5}$/)
      assert.is(mac, vtepMac(a))
      if (a !== b) assert.is.not(mac, vtepMac(b))
    }),
  )
  // Peers hold it in their tables: a change of the rule would cut off a node that is upgraded first.
  assert.is(vtepMac('2f1d8a5e-0000-4000-8000-000000000001'), 'a2:c1:6a:bd:47:c5')
})

test('overhead is 50 bytes over IPv4, 70 over IPv6, and a pod has the smallest of its paths', () => {
  assert.is(tunnelMtu(1500, 4), 1450)
  assert.is(tunnelMtu(1500, 6), 1430)
  assert.is(podMtu([], 1500), 1500)
  assert.is(podMtu([{ family: 4, mtu: 9000 }], 1500), 1500)
  assert.is(
    podMtu(
      [
        { family: 4, mtu: 1500 },
        { family: 6, mtu: 1500 },
      ],
      1500,
    ),
    1430,
  )
})

test.run()
