import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { type ConfigSources, loadConfig } from '../../../daemon/config-load.ts'
import type { EtcdSettings } from '../../../datastore/settings.ts'
import { isTwillError } from '../../../lib/errors.ts'

const sources = (text: string, more: Partial<ConfigSources> = {}): ConfigSources => ({
  file: { path: '/etc/twill/twilld.yaml', text },
  environment: {},
  flags: {},
  hostname: 'Worker-7',
  ...more,
})

const minimal = 'datastore: {endpoints: ["http://10.0.0.1:2379"]}\n'

function refusal(from: ConfigSources): string {
  try {
    loadConfig(from)
  } catch (error) {
    assert.ok(isTwillError(error, 'config.invalid'), String(error))
    return (error as Error).message
  }
  throw new Error('accepted')
}

test('defaults: the node is the host, in lower case; durations become milliseconds', () => {
  const config = loadConfig(sources(minimal))
  assert.is(config.nodeName, 'worker-7')
  assert.is(config.offlineAllowance, 3_600_000)
  assert.is(config.coolDown, 60_000)
  assert.equal(config.vxlan, { vni: 84, port: 4789 })
  assert.is((config.datastore as EtcdSettings).prefix, '/twill/v1/')
  assert.is(config.metricsAddress, null)
})

test('flags win over the environment, which wins over the file', () => {
  const text = `${minimal}nodeName: from-file\nvxlan: {vni: 1}\nlogLevel: warn\n`
  const environment = { TWILL_NODE_NAME: 'from-env', TWILL_VXLAN_VNI: '2', PATH: '/bin' }
  const config = loadConfig(sources(text, { environment, flags: { 'node-name': 'from-flag' } }))
  assert.is(config.nodeName, 'from-flag')
  assert.is(config.vxlan.vni, 2)
  assert.is(config.logLevel, 'warn')
})

test('lists in the environment are separated by commas', () => {
  const environment = { TWILL_DATASTORE_ENDPOINTS: 'http://a:1, http://b:2' }
  const { datastore } = loadConfig(sources('', { environment }))
  assert.equal((datastore as EtcdSettings).endpoints, ['http://a:1', 'http://b:2'])
})

test('labels of the node: a mapping in the file, zone=a,rack=r1 elsewhere, and that as a whole', () => {
  const file = `${minimal}nodeLabels: {zone: a, example.com/disk: ssd}\n`
  assert.equal(loadConfig(sources(file)).nodeLabels, { zone: 'a', 'example.com/disk': 'ssd' })
  const environment = { TWILL_NODE_LABELS: 'zone=b, rack=' }
  assert.equal(loadConfig(sources(file, { environment })).nodeLabels, { zone: 'b', rack: '' })
  assert.equal(loadConfig(sources(file, { environment, flags: { 'node-labels': '' } })).nodeLabels, {})
  for (const [text, expected] of [
    ['zone', /TWILL_NODE_LABELS: nodeLabels: "zone": expected labels such as zone=a,rack=r1/],
    ['zone=a,zone=b', /nodeLabels: "zone=a,zone=b": expected labels/],
    ['-x=a', /TWILL_NODE_LABELS: .*-x.*expected a label name/],
    ['zone=a b', /TWILL_NODE_LABELS: nodeLabels.zone: "a b": expected at most 63 letters/],
  ] as const)
    assert.match(refusal(sources(minimal, { environment: { TWILL_NODE_LABELS: text } })), expected)
})

test('Kubernetes is off unless the file, a variable or a flag says so; without a kubeconfig it is the service account', () => {
  const kubernetesOf = (text: string, more: Partial<ConfigSources> = {}) =>
    loadConfig(sources(`${minimal}${text}`, more)).kubernetes
  assert.equal(kubernetesOf(''), { enabled: false, kubeconfig: null })
  assert.equal(kubernetesOf('kubernetes: {enabled: true}\n'), { enabled: true, kubeconfig: null })
  const environment = {
    TWILL_KUBERNETES_ENABLED: 'true',
    TWILL_KUBERNETES_KUBECONFIG: '/etc/twill/kubeconfig',
  }
  assert.equal(kubernetesOf('', { environment }), { enabled: true, kubeconfig: '/etc/twill/kubeconfig' })
  const flags = { 'kubernetes-enabled': 'false', 'kubernetes-kubeconfig': 'null' }
  assert.equal(kubernetesOf('', { environment, flags }), { enabled: false, kubeconfig: null })
  for (const [variable, text, expected] of [
    [
      'TWILL_KUBERNETES_ENABLED',
      'yes',
      /TWILL_KUBERNETES_ENABLED: kubernetes.enabled: "yes": expected true or/,
    ],
    [
      'TWILL_KUBERNETES_KUBECONFIG',
      'admin.conf',
      /kubernetes.kubeconfig: "admin.conf": expected an absolute/,
    ],
  ] as const)
    assert.match(refusal(sources(minimal, { environment: { [variable]: text } })), expected)
})

test('endpoints belong to etcd, and are said to where the type is another', () => {
  for (const type of ['kubernetes', 'embedded']) {
    const text = `datastore: {type: ${type}, endpoints: ["http://a:1"]}\nkubernetes: {enabled: true}\n`
    const message = refusal(sources(text))
    assert.match(message, /datastore.endpoints: .*: unknown field, expected only with type: etcd/)
    assert.not.match(message, 'did you mean')
  }
  assert.match(
    refusal(sources('datastore: {type: kubernetes, endpoint: x}\nkubernetes: {enabled: true}\n')),
    /datastore.endpoint: "x": unknown field, expected type/,
  )
  assert.match(refusal(sources('datastore: {endpoint: ["http://a:1"]}')), /did you mean endpoints/)
})

test('what was pasted where a path belongs is not shown: it may be a secret', () => {
  const kubeconfig = 'apiVersion: v1\nusers:\n- user: {token: s3cret}\n'
  const inline = JSON.stringify(kubeconfig)
  const token = `s3cret${'x'.repeat(300)}`
  for (const text of [
    `kubernetes: {kubeconfig: ${inline}}\n`,
    'kubernetes: {kubeconfig: {users: [{token: s3cret}]}}\n',
    `kubernetes: {kubeconfig: ${token}}\n`,
    `kubernetes: {kubeconfig: /${token}}\n`,
    `kubernetes: {kubeconfigData: ${inline}}\n`,
    `kubernetes: {token: ${token}}\n`,
    `stateDir: ${token}\n`,
  ]) {
    const message = refusal(sources(minimal + text))
    assert.match(
      message,
      /(kubernetes\.\w+|stateDir): \(not shown\): (expected an absolute path|expected text|unknown field)/,
    )
    assert.not.match(message, 's3cret')
  }
  const passwordFile = refusal(sources(`datastore: {endpoints: ["http://a:1"], passwordFile: ${token}}\n`))
  assert.match(passwordFile, /passwordFile: \(not shown\)/)
  const environment = { TWILL_KUBERNETES_KUBECONFIG: kubeconfig }
  assert.match(refusal(sources(minimal, { environment })), /KUBECONFIG: kubernetes.kubeconfig: \(not shown\)/)
})

test('a secret where none belongs is not shown, however short', () => {
  const etcd = (more: string) => `datastore: {endpoints: ["http://a:1"], ${more}}\n`
  for (const [text, expected] of [
    [etcd('username: twill, password: s3cret'), /datastore.password: \(not shown\): unknown field/],
    [etcd('auth: {password: s3cret}'), /datastore.auth: \(not shown\): unknown field/],
    [etcd('username: {password: s3cret}'), /datastore.username: \(not shown\): expected text/],
    [etcd('passwordFile: s3cret'), /datastore.passwordFile: \(not shown\): expected an absolute path/],
    ['datastore: {endpoints: ["http://twill:s3cret@a:1"]}', /"http:\/\/\(not shown\)@a:1": expected http:/],
    [`${minimal}kubernetes: {enabled: true, token: s3cret}\n`, /kubernetes.token: \(not shown\): unknown/],
  ] as const) {
    const message = refusal(sources(text))
    assert.match(message, expected)
    assert.not.match(message, 's3cret')
  }
  assert.match(refusal(sources(etcd('tls: {ca: ca.pem}'))), /tls.ca: "ca.pem": expected an absolute path/)
})

test('a wrong key is named with its file', () => {
  const message = refusal(sources(`${minimal}vxlan: {vnid: 5}\n`))
  assert.match(message, '/etc/twill/twilld.yaml')
  assert.match(message, 'vnid')
})

test('a wrong value is named with field, value and what was expected', () => {
  const message = refusal(sources(`${minimal}coolDown: soon\n`))
  assert.match(message, /coolDown: .*soon.*: expected a duration/)
})

test('a wrong variable is named; so is the source of a wrong value', () => {
  assert.match(refusal(sources(minimal, { environment: { TWILL_NODENAME: 'x' } })), 'TWILL_NODENAME')
  assert.match(
    refusal(sources(minimal, { environment: { TWILL_VXLAN_PORT: 'x' } })),
    /TWILL_VXLAN_PORT: vxlan.port/,
  )
  assert.match(
    refusal(sources(minimal, { flags: { 'vxlan-port': '70000' } })),
    /--vxlan-port: vxlan.port: 70000/,
  )
})

test('every mistake is told at once', () => {
  const message = refusal(sources('datastore: {endpoints: []}\nlogLevel: loud\n'))
  assert.match(message, 'datastore.endpoints')
  assert.match(message, 'logLevel')
})

test('a block size outside its bounds and a CIDR with host bits are refused', () => {
  const pool = (spec: string) => refusal(sources(`${minimal}firstPools: [{name: a, spec: {${spec}}}]\n`))
  assert.match(pool('cidr: 10.0.0.0/16, blockSize: 12'), 'expected /20 to /32')
  assert.match(pool('cidr: 10.0.0.1/16'), '10.0.0.1/16')
  assert.match(pool('cidr: 10.0.0.0/24, blockSize: 22'), 'no larger than its pool')
})

test('interface and reach exclude each other', () => {
  assert.match(refusal(sources(`${minimal}underlay: {interface: eth0, reach: 10.0.0.1}\n`)), 'not both')
})

test('no YAML, and no table', () => {
  assert.match(refusal(sources('a: [')), 'not YAML')
  assert.match(refusal(sources('- a')), 'expected a table')
})

test('without any datastore it is the embedded one; whatever is said of one without a type is about etcd', () => {
  assert.equal(loadConfig(sources('', { file: null })).datastore, { type: 'embedded' })
  assert.equal(loadConfig(sources('datastore: {type: embedded}')).datastore, { type: 'embedded' })
  assert.match(refusal(sources('datastore: {prefix: /x/}')), /datastore.endpoints: missing/)
  assert.match(refusal(sources('datastore: {}')), /datastore.endpoints: missing/)
  assert.match(
    refusal(sources('datastore: {type: embedded, endpoints: ["http://a:1"]}')),
    /datastore.endpoints: .*unknown field/,
  )
  assert.match(refusal(sources('datastore: {type: sqlite}')), /datastore.type: "sqlite": expected .*etcd/)
})

test.run()
