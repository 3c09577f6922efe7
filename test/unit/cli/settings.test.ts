/** Where datastore and daemon are: flags over environment over the daemon's configuration file. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readSettings } from '../../../cli/settings.ts'
import { messageOf } from '../../../lib/errors.ts'
import { Twillctl } from '../../fixtures/twillctl.ts'

const CONFIG = `nodeName: node1
datastore:
  endpoints: [http://10.0.0.1:2379]
  username: twill
  passwordFile: /etc/twill/password
runDir: /run/other
somethingOfTheDaemon: 1
`
const NONE = { config: undefined, etcdEndpoints: undefined, socket: undefined }

function reader(files: Record<string, string>) {
  return async (path: string) => {
    if (files[path] !== undefined) return files[path]
    throw Object.assign(new Error(`ENOENT: ${path}`), { code: 'ENOENT' })
  }
}

const settings = (
  flags: Partial<Parameters<typeof readSettings>[0]>,
  env: Record<string, string> = {},
  files: Record<string, string> = { '/etc/twill/twilld.yaml': CONFIG },
) => readSettings({ ...NONE, ...flags }, { env, readFile: reader(files) })

async function refusal(...args: Parameters<typeof settings>): Promise<string> {
  return settings(...args).then(
    () => 'accepted',
    error => messageOf(error),
  )
}

test('on a node: the configuration file says both', async () => {
  const { datastore, socket } = await settings({})
  assert.equal(datastore?.endpoints, ['http://10.0.0.1:2379'])
  assert.equal([datastore?.username, datastore?.prefix], ['twill', '/twill/v1/'])
  assert.is(socket, '/run/other/api.sock')
})

test('without a file: nothing is known but the usual socket', async () => {
  assert.equal(await settings({}, {}, {}), {
    datastore: null,
    socket: '/run/twill/api.sock',
    configFile: '/etc/twill/twilld.yaml',
  })
})

test('the environment wins over the file, flags over the environment', async () => {
  const env = {
    TWILL_DATASTORE_ENDPOINTS: 'http://a:1, http://b:2',
    TWILL_DATASTORE_PREFIX: '/x/',
    TWILL_RUN_DIR: '/run/env',
  }
  const fromEnv = await settings({}, env)
  assert.equal(fromEnv.datastore?.endpoints, ['http://a:1', 'http://b:2'])
  assert.equal([fromEnv.datastore?.prefix, fromEnv.datastore?.username], ['/x/', 'twill'])
  assert.is(fromEnv.socket, '/run/env/api.sock')
  const flagged = await settings({ etcdEndpoints: ['http://c:3'], socket: '/s' }, env)
  assert.equal(flagged.datastore?.endpoints, ['http://c:3'])
  assert.is(flagged.socket, '/s')
})

test('another file by flag or variable; one that was named must be there', async () => {
  const files = { '/a.yaml': CONFIG }
  assert.ok((await settings({ config: '/a.yaml' }, {}, files)).datastore)
  assert.ok((await settings({}, { TWILL_CONFIG: '/a.yaml' }, files)).datastore)
  assert.match(await refusal({ config: '/none' }, {}, files), '/none: cannot be read: ENOENT')
  assert.match(await refusal({}, { TWILL_CONFIG: '/none' }, files), '/none: cannot be read: ENOENT')
})

test('a default file that is there but not readable is told', async () => {
  const readFile = async () => {
    throw Object.assign(new Error('EACCES: permission denied'), { code: 'EACCES' })
  }
  const message = await readSettings(NONE, { env: {}, readFile }).then(String, messageOf)
  assert.is(message, '/etc/twill/twilld.yaml: cannot be read: EACCES: permission denied')
})

test('mistakes name file or flag, field, value and what was expected', async () => {
  const file = (text: string) => ({ '/etc/twill/twilld.yaml': text })
  assert.is(
    await refusal({}, {}, file('datastore: {endpoints: [10.0.0.1]}')),
    '/etc/twill/twilld.yaml: datastore.endpoints[0]: "10.0.0.1": expected http://HOST:PORT or https://HOST:PORT',
  )
  assert.is(
    await refusal({}, {}, file('datastore: {endpoints: [http://a:1], user: x}')),
    '/etc/twill/twilld.yaml: datastore.user: "x": unknown field, expected one of type, endpoints, prefix, tls, username, passwordFile',
  )
  assert.match(await refusal({}, {}, file('a: [')), /^\/etc\/twill\/twilld.yaml: not YAML: /)
  assert.is(
    await refusal({}, {}, file('hello')),
    '/etc/twill/twilld.yaml: "hello": expected a mapping of fields',
  )
  assert.is(
    await refusal({ etcdEndpoints: ['b:2'] }, {}, {}),
    '--etcd-endpoints: endpoints[0]: "b:2": expected http://HOST:PORT or https://HOST:PORT',
  )
  assert.is(
    await refusal({}, { TWILL_DATASTORE_ENDPOINTS: 'b:2' }, {}),
    'environment: endpoints[0]: "b:2": expected http://HOST:PORT or https://HOST:PORT',
  )
})

test('the command uses them: endpoints to the store, socket to the daemon', async () => {
  const cli = new Twillctl()
  await cli.run('status', '--etcd-endpoints', 'http://c:3,http://d:4', '--socket', '/s')
  assert.equal(cli.opened[0]?.endpoints, ['http://c:3', 'http://d:4'])
  assert.equal(cli.sockets, ['/s'])
})

test('nothing says where the datastore is: the line names all three places', async () => {
  const cli = new Twillctl()
  cli.env = {}
  assert.equal(await cli.run('get', 'nodes'), {
    code: 1,
    out: '',
    err: 'error: datastore: no endpoints: expected --etcd-endpoints, TWILL_DATASTORE_ENDPOINTS or datastore.endpoints in /etc/twill/twilld.yaml\n',
  })
})

test.run()
