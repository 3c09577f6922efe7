/** Where datastore and daemon are: flags over environment over the daemon's configuration file. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { readSettings } from '../../../cli/settings.ts'
import type { EtcdSettings } from '../../../datastore/settings.ts'
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
const NONE = { config: undefined, etcdEndpoints: undefined, kubeconfig: undefined, socket: undefined }

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

async function etcdOf(...args: Parameters<typeof settings>): Promise<EtcdSettings> {
  const { datastore } = await settings(...args)
  if (datastore.type !== 'etcd') throw new Error('embedded')
  return datastore
}

async function refusal(...args: Parameters<typeof settings>): Promise<string> {
  return settings(...args).then(
    () => 'accepted',
    error => messageOf(error),
  )
}

test('on a node: the configuration file says both', async () => {
  const datastore = await etcdOf({})
  assert.equal(datastore.endpoints, ['http://10.0.0.1:2379'])
  assert.equal([datastore.username, datastore.prefix], ['twill', '/twill/v1/'])
  assert.is((await settings({})).socket, '/run/other/api.sock')
})

test('without a file: the daemon behind the usual socket has the datastore', async () => {
  assert.equal(await settings({}, {}, {}), {
    datastore: { type: 'embedded' },
    kubernetes: { enabled: false, kubeconfig: null },
    socket: '/run/twill/api.sock',
    fenceMarginMs: 60_000,
    configFile: '/etc/twill/twilld.yaml',
  })
})

test('the environment wins over the file, flags over the environment', async () => {
  const env = {
    TWILL_DATASTORE_ENDPOINTS: 'http://a:1, http://b:2',
    TWILL_DATASTORE_PREFIX: '/x/',
    TWILL_RUN_DIR: '/run/env',
  }
  const fromEnv = await etcdOf({}, env)
  assert.equal(fromEnv.endpoints, ['http://a:1', 'http://b:2'])
  assert.equal([fromEnv.prefix, fromEnv.username], ['/x/', 'twill'])
  assert.is((await settings({}, env)).socket, '/run/env/api.sock')
  const flags = { etcdEndpoints: ['http://c:3'], socket: '/s' }
  assert.equal((await etcdOf(flags, env)).endpoints, ['http://c:3'])
  assert.is((await settings(flags, env)).socket, '/s')
})

test('a file without a datastore, or with the embedded one; endpoints that are named win', async () => {
  for (const text of ['nodeName: a', 'datastore:', 'datastore: {type: embedded}', '']) {
    const files = { '/etc/twill/twilld.yaml': text }
    assert.equal((await settings({}, {}, files)).datastore, { type: 'embedded' }, text)
    const { endpoints } = await etcdOf({ etcdEndpoints: ['http://c:3'] }, {}, files)
    assert.equal(endpoints, ['http://c:3'])
  }
})

test('another file by flag or variable; one that was named must be there', async () => {
  const files = { '/a.yaml': CONFIG }
  assert.ok((await settings({ config: '/a.yaml' }, {}, files)).datastore)
  assert.ok((await settings({}, { TWILL_CONFIG: '/a.yaml' }, files)).datastore)
  assert.match(await refusal({ config: '/none' }, {}, files), '/none: cannot be read: ENOENT')
  assert.match(await refusal({}, { TWILL_CONFIG: '/none' }, files), '/none: cannot be read: ENOENT')
})

test('Kubernetes: by the file, by variables, by a kubeconfig; the records in etcd or there too', async () => {
  const there = { '/etc/twill/twilld.yaml': 'datastore: {type: kubernetes}\nkubernetes: {enabled: true}\n' }
  const byFile = await settings({}, {}, there)
  assert.equal(byFile.datastore, { type: 'kubernetes' })
  assert.equal(byFile.kubernetes, { enabled: true, kubeconfig: null })
  const variables = {
    TWILL_DATASTORE_TYPE: 'kubernetes',
    TWILL_KUBERNETES_ENABLED: 'true',
    TWILL_KUBERNETES_KUBECONFIG: '/k/config',
  }
  const byVariables = await settings({}, variables, {})
  assert.equal(byVariables.datastore, { type: 'kubernetes' })
  assert.equal(byVariables.kubernetes, { enabled: true, kubeconfig: '/k/config' })
  const flag = await settings({ kubeconfig: '/other' }, { TWILL_KUBERNETES_KUBECONFIG: '/k/config' })
  assert.is(flag.datastore.type, 'etcd')
  assert.equal(flag.kubernetes, { enabled: true, kubeconfig: '/other' })
  assert.not((await settings({})).kubernetes.enabled)
})

test('records in Kubernetes without Kubernetes, and words that are none, are refused', async () => {
  assert.is(
    await refusal({}, { TWILL_DATASTORE_TYPE: 'kubernetes' }, {}),
    'datastore.type: kubernetes: expected etcd or embedded unless kubernetes.enabled is true',
  )
  assert.match(
    await refusal({}, { TWILL_KUBERNETES_ENABLED: 'yes' }, {}),
    /enabled: "yes": expected true or false/,
  )
  assert.match(await refusal({}, { TWILL_DATASTORE_TYPE: 'mysql' }, {}), /type: "mysql": expected/)
  for (const pasted of ['users:\n- user: {token: s3cret}\n', `s3cret${'x'.repeat(300)}`]) {
    const message = await refusal({ kubeconfig: pasted })
    assert.match(message, /kubeconfig: \(not shown\): expected an absolute path/)
    assert.not.match(message, 's3cret')
  }
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

test('nothing says where the datastore is: the daemon is asked for it', async () => {
  const cli = new Twillctl()
  cli.env = {}
  cli.embedded = true
  assert.is((await cli.run('get', 'nodes', '--socket', '/s')).code, 0)
  assert.equal([cli.sockets, cli.opened, cli.closed], [['/s'], [], 1])
})

test('nor is there a daemon: the line names the socket, and all three places for an etcd', async () => {
  const cli = new Twillctl()
  cli.env = {}
  assert.equal(await cli.run('get', 'nodes'), {
    code: 1,
    out: '',
    err: 'error: daemon at /run/twill/api.sock: no such socket: is twilld running?; for a datastore in etcd: --etcd-endpoints, TWILL_DATASTORE_ENDPOINTS or datastore.endpoints in /etc/twill/twilld.yaml; for one in Kubernetes: TWILL_DATASTORE_TYPE=kubernetes or datastore.type in /etc/twill/twilld.yaml\n',
  })
})

test.run()
