/** What a node lives by: as observed, and as it is configured. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { observeSelf } from '../../../daemon/node/self.ts'
import { vitalsOf } from '../../../daemon/node/vital.ts'
import { formatIp } from '../../../lib/address.ts'
import { silentLog } from '../../../lib/log.ts'
import { link, route } from './kernel-model.ts'

const kernel = {
  readLinks: async () => [link('eth0')],
  readAddresses: async () => [
    { device: 'eth0', family: 4 as const, address: '192.0.2.1', prefix: 24, scope: 0, tentative: false },
  ],
  readRoutes: async () => [
    route('0.0.0.0/0', { gateway: '192.0.2.254', device: 'eth0' }),
    route('10.1.0.0/16', { gateway: '192.0.2.7', device: 'eth0' }),
  ],
  readSysctl: async () => '0',
  lookupRoute: async () => assert.unreachable() as never,
}

test('its own address, the next hop of its default route, and servers that are addresses', async () => {
  const observation = await observeSelf({}, { kernel: kernel as never, log: silentLog })
  const datastore = {
    ...{ type: 'etcd' as const, prefix: '/twill/' },
    endpoints: ['http://198.51.100.1:2379', 'https://etcd.example:2379', 'https://[fd00::5]:2379'],
  }
  const vitals = vitalsOf({ datastore, apiServer: 'https://10.96.0.1:443' }, () => observation)
  assert.equal(
    vitals().map(({ ip, whose }) => `${formatIp(ip)} ${whose}`),
    [
      '192.0.2.1 the address of this node',
      '192.0.2.254 the next hop of a default route',
      '198.51.100.1 an endpoint of the datastore',
      'fd00::5 an endpoint of the datastore',
      '10.96.0.1 the address of the API server',
    ],
  )
  assert.is(vitals(), vitals(), 'the same while nothing changed')
})

test('a node that moved lives by another address; one without API server by none', async () => {
  let observation = await observeSelf({}, { kernel: kernel as never, log: silentLog })
  const vitals = vitalsOf({ datastore: { type: 'embedded' }, apiServer: null }, () => observation)
  assert.is(vitals().length, 2)
  observation = { ...observation, underlay: [{ ...observation.underlay[0]!, address: '192.0.2.9' }] }
  assert.is(formatIp(vitals()[0]!.ip), '192.0.2.9')
})

test.run()
