/** kubeconfigs as people have them, and what is said of those that cannot be used. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { Credentials } from '../../../../datastore/kubernetes/credentials.ts'
import { inCluster, readKubeconfig } from '../../../../datastore/kubernetes/kubeconfig.ts'
import type { TwillError } from '../../../../lib/errors.ts'
import { silentLog } from '../../../../lib/log.ts'
import { authority } from '../../../fixtures/certificates.ts'
import { ManualClock } from '../../../fixtures/manual-clock.ts'

const PATH = '/etc/kubernetes/k.conf'

const kubeconfig = (cluster: string, user: string, rest = '') => `apiVersion: v1
kind: Config
preferences: {}
clusters: [{name: c, cluster: {${cluster}}}, {name: other, cluster: {server: nonsense}}]
users: [{name: u, user: {${user}}}]
contexts: [{name: x, context: {cluster: c, user: u, namespace: ignored}}]
current-context: x
${rest}`

const folder = mkdtempSync(join(tmpdir(), `twc-kubeconfig-${process.pid}-`))
test.after(() => rmSync(folder, { recursive: true, force: true }))

test('paths are relative to the kubeconfig, data is decoded, what other contexts have does not matter', () => {
  const text = kubeconfig(
    'server: "https://api:6443/", certificate-authority: pki/ca.crt',
    `client-certificate-data: ${btoa('cert')}, client-key: /abs/key`,
  )
  const access = readKubeconfig(PATH, text)
  assert.is(access.server, 'https://api:6443')
  assert.equal(access.ca, {
    field: `${PATH}: cluster c: certificate-authority`,
    file: '/etc/kubernetes/pki/ca.crt',
  })
  const { cert, key } = access.certificate ?? {}
  assert.equal(cert, { field: `${PATH}: user u: client-certificate-data`, data: Buffer.from('cert') })
  assert.equal(key, { field: `${PATH}: user u: client-key`, file: '/abs/key' })
  assert.is(access.token, null)
})

test('a tokenFile counts more than a token: it is renewed', () => {
  const access = readKubeconfig(PATH, kubeconfig('server: "http://api:80"', 'token: t, tokenFile: f'))
  assert.equal(access.token, { field: `${PATH}: user u: tokenFile`, file: '/etc/kubernetes/f' })
})

test('what cannot be used is refused with file, place and what was expected', () => {
  const fine = 'server: "https://api:6443"'
  const cases: [string, RegExp][] = [
    ['a: [', /k\.conf: not YAML: line 1, column 5 \(/],
    ['{}', /k\.conf: current-context: missing: expected text/],
    [
      kubeconfig(fine, '').replace('current-context: x', 'current-context: y'),
      /contexts: expected one of the name "y", found x/,
    ],
    [
      kubeconfig(fine, '').replace('cluster: c,', 'cluster: d,'),
      /clusters: expected one of the name "d", found c, other/,
    ],
    [kubeconfig('server: api', ''), /cluster c: server: expected http:\/\/HOST:PORT/],
    [kubeconfig(`${fine}, proxy-url: "http://p"`, ''), /cluster c: proxy-url: expected none: /],
    [
      kubeconfig(fine, 'exec: {command: aws}'),
      /user u: exec: expected none: no credential plugin is run; expected a token/,
    ],
    [kubeconfig(fine, 'as: root'), /user u: as: expected none/],
    [kubeconfig(fine, 'username: a, password: b'), /user u: username: expected none/],
    [
      kubeconfig(fine, 'client-key: k'),
      /user u: expected both client-certificate and client-key, or neither/,
    ],
  ]
  for (const [text, message] of cases) assert.throws(() => readKubeconfig(PATH, text), message)
})

test('no message quotes what the file holds: any of it may be a secret', async () => {
  const fine = 'server: "https://api:6443"'
  const texts = [
    kubeconfig(fine, 'token: [SECRET]'),
    kubeconfig(fine, 'token: "SECRET'),
    kubeconfig(fine, 'token: *SECRET'),
    kubeconfig(fine, 'token: "SECRET" "SECRET"'),
    kubeconfig(fine, 'exec: {command: aws, env: [{name: KEY, value: SECRET}]}'),
    kubeconfig(fine, 'client-key-data: "-----BEGIN PRIVATE KEY----- SECRET"'),
    kubeconfig(`${fine}, proxy-url: "http://u:SECRET@p"`, ''),
    kubeconfig('server: "https://u:SECRET@api:6443"', ''),
    kubeconfig(fine, '').replace(/^users:.*/m, 'users: {u: {token: SECRET}}'),
    kubeconfig(fine, '').replace(/^users:.*/m, 'users: [{name: u, user: token SECRET}]'),
    'token SECRET\n  - x: ]',
    'SECRET',
  ]
  for (const text of texts)
    try {
      readKubeconfig(PATH, text)
      assert.unreachable(text)
    } catch (error) {
      assert.is((error as TwillError).code, 'config.invalid', text)
      assert.not.match(JSON.stringify([(error as TwillError).message, (error as TwillError).data]), 'SECRET')
    }
  const warnings: string[] = []
  const hear = (warning: Error) => warnings.push(String(warning))
  process.on('warning', hear)
  readKubeconfig(PATH, kubeconfig(fine, 'token: !vault SECRET'))
  await new Promise(setImmediate)
  process.off('warning', hear)
  assert.equal(warnings, [])
})

test('in a pod: host and port of the environment, IPv6 in brackets; elsewhere it says what was expected', () => {
  const at = (host: string) =>
    inCluster({ KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: '443' }, '/sa')
  assert.is(at('10.96.0.1').server, 'https://10.96.0.1:443')
  assert.is(at('fd00::1').server, 'https://[fd00::1]:443')
  assert.equal(at('10.96.0.1').token, { field: "the pod's service account", file: '/sa/token' })
  assert.throws(
    () => inCluster({}, '/sa'),
    /kubernetes\.kubeconfig: null: expected the path of a kubeconfig, or to run in a pod/,
  )
})

test('files are read again after a minute; while one cannot be, the last content stays', async () => {
  const clock = new ManualClock()
  const [config, token] = [join(folder, 'config'), join(folder, 'token')]
  writeFileSync(config, kubeconfig('server: "https://api:6443"', 'tokenFile: token'))
  writeFileSync(token, 'first\n')
  const modules = { clock, log: silentLog, readFile, environment: {} }
  const credentials = await Credentials.open({ kubeconfig: config }, modules)
  const before = await credentials.current()
  assert.is(before.token, 'first')
  writeFileSync(token, 'second\n')
  await clock.advance(59_000)
  assert.is(await credentials.current(), before)
  await clock.advance(1_000)
  assert.is((await credentials.current()).token, 'second')
  rmSync(token)
  assert.is(await credentials.renew(await credentials.current()), false)
  assert.is((await credentials.current()).token, 'second')
  writeFileSync(config, readFileSync(config, 'utf8').replace('tokenFile: token', 'token: third'))
  assert.is(await credentials.renew(await credentials.current()), true)
  assert.is((await credentials.current()).token, 'third')
})

test('a file that does not hold what it should is refused at the start, by the name of its field', async () => {
  const ca = authority(folder, 'ca')
  const [one, other] = [ca.sign('one'), ca.sign('other')]
  const path = join(folder, 'wrong')
  const cases: [string, string, RegExp][] = [
    [
      'certificate-authority: none',
      '',
      /cluster c: certificate-authority: ".*none": expected a readable file: ENOENT/,
    ],
    [
      `certificate-authority: ${ca.key}`,
      '',
      /cluster c: certificate-authority: .*: expected a certificate in PEM/,
    ],
    [
      '',
      `client-certificate: ${one.cert}, client-key: ${other.key}`,
      /user u: client-key: .*: expected the private key of /,
    ],
    ['', 'token: "two words"', /user u: token: expected a token: printable characters without spaces$/],
  ]
  for (const [cluster, user, message] of cases) {
    writeFileSync(path, kubeconfig(`server: "https://api:6443", ${cluster}`, user))
    const opening = Credentials.open(
      { kubeconfig: path },
      { clock: new ManualClock(), log: silentLog, readFile, environment: {} },
    )
    await opening.then(
      () => assert.unreachable(String(message)),
      error => {
        assert.is(error.code, 'config.invalid')
        assert.match(error.message, message)
      },
    )
  }
})

test.run()
