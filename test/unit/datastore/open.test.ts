/** Settings to etcd options: the files they name are read; half a pair and unreadable files are named. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { etcdOptionsOf } from '../../../datastore/open.ts'
import { etcdDatastore } from '../../../datastore/settings.ts'
import { messageOf } from '../../../lib/errors.ts'

const FILES: Record<string, string> = {
  '/ca': 'CA',
  '/cert': 'CERT',
  '/key': 'KEY',
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
  assert.equal([options.tls?.ca, options.tls?.cert, options.tls?.key].map(String), ['CA', 'CERT', 'KEY'])
  assert.equal(Object.keys((await optionsOf({ tls: { ca: '/ca' } })).tls ?? {}), ['ca'])
})

test('half of a pair names what is missing', async () => {
  assert.match(await refusal({ tls: { ca: '/ca', cert: '/cert' } }), /^datastore.tls.key: missing/)
  assert.match(await refusal({ tls: { ca: '/ca', key: '/key' } }), /^datastore.tls.cert: missing/)
  assert.match(await refusal({ username: 'twill' }), /^datastore.passwordFile: missing/)
  assert.match(await refusal({ passwordFile: '/password' }), /^datastore.username: missing/)
})

test('a file that cannot be read is named with its field', async () => {
  assert.is(
    await refusal({ tls: { ca: '/none' } }),
    'datastore.tls.ca: "/none": expected a readable file: ENOENT: /none',
  )
})

test.run()
