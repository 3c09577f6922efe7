/** Settings to etcd options: the files they name are read; half a pair and unreadable files are named. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { etcdOptionsOf } from '../../../datastore/open.ts'
import { etcdDatastore } from '../../../datastore/settings.ts'
import { messageOf } from '../../../lib/errors.ts'
import { authority } from '../../fixtures/certificates.ts'

const folder = mkdtempSync(join(tmpdir(), 'twill-open-'))
test.after(() => rmSync(folder, { recursive: true }))
const ca = authority(folder, 'ca')
const [own, other] = [ca.sign('own'), ca.sign('other')]
const textOf = (path: string) => readFileSync(path, 'utf8')

const FILES: Record<string, string> = {
  '/ca': textOf(ca.cert),
  '/cert': textOf(own.cert),
  '/key': textOf(own.key),
  '/other-key': textOf(other.key),
  '/junk': 'junk',
  '/password': 'se cret\n',
}

function optionsOf(more: object) {
  const settings = etcdDatastore.parse({ endpoints: ['https://a:1', 'https://b:2'], ...more })
  return etcdOptionsOf(settings, {
    readFile: async path => {
      if (FILES[path] === undefined) throw new Error(`ENOENT: ${path}`)
      return Buffer.from(FILES[path])
    },
  })
}

const refusal = (more: object) => optionsOf(more).then(() => 'accepted', messageOf)

test('endpoints and prefix alone', async () => {
  assert.equal(await optionsOf({ prefix: '/x/' }), {
    endpoints: ['https://a:1', 'https://b:2'],
    prefix: '/x/',
  })
})

test('TLS and password from their files; the password without its final newline', async () => {
  const options = await optionsOf({
    tls: { ca: '/ca', cert: '/cert', key: '/key' },
    username: 'twill',
    passwordFile: '/password',
  })
  assert.equal(options.auth, { username: 'twill', password: 'se cret' })
  assert.equal(
    [options.tls?.ca, options.tls?.cert, options.tls?.key].map(String),
    ['/ca', '/cert', '/key'].map(path => FILES[path]),
  )
  assert.equal(Object.keys((await optionsOf({ tls: { ca: '/ca' } })).tls ?? {}), ['ca'])
})

test('half of a pair names what is missing', async () => {
  assert.match(await refusal({ tls: { ca: '/ca', cert: '/cert' } }), /^datastore.tls.key: missing/)
  assert.match(await refusal({ tls: { ca: '/ca', key: '/key' } }), /^datastore.tls.cert: missing/)
  assert.match(await refusal({ username: 'twill' }), /^datastore.passwordFile: missing/)
  assert.match(await refusal({ passwordFile: '/password' }), /^datastore.username: missing/)
})

test('what is no certificate, no key, or the key of another certificate, is named before any server is asked', async () => {
  const tls = { ca: '/ca', cert: '/cert', key: '/key' }
  assert.is(await refusal({ tls }), 'accepted')
  assert.match(
    await refusal({ tls: { ...tls, ca: '/junk' } }),
    /^datastore.tls.ca: "\/junk": expected a cert.* PEM/,
  )
  assert.match(
    await refusal({ tls: { ...tls, cert: '/junk' } }),
    /^datastore.tls.cert: "\/junk": expected a cert/,
  )
  assert.match(
    await refusal({ tls: { ...tls, key: '/junk' } }),
    /^datastore.tls.key: "\/junk": expected a private key/,
  )
  assert.is(
    await refusal({ tls: { ...tls, key: '/other-key' } }),
    'datastore.tls.key: "/other-key": expected the private key of the certificate given with it, not of another certificate',
  )
})

test('a file that cannot be read is named with its field', async () => {
  assert.is(
    await refusal({ tls: { ca: '/none' } }),
    'datastore.tls.ca: "/none": expected a readable file: ENOENT: /none',
  )
})

test.run()
