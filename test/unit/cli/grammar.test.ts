/** What may be typed; mistakes are one line on stderr and exit code 2, and nothing is touched. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { parseArguments } from '../../../cli/grammar.ts'
import { VERSION } from '../../../lib/version.ts'
import { Twillctl } from '../../fixtures/twillctl.ts'

const mistakes: [argv: string[], line: string][] = [
  [[], 'expected a command: apply, get, delete, explain, status or ipam (see twillctl --help)'],
  [['aply', '-f', 'x'], '"aply": unknown command, did you mean apply? (see twillctl --help)'],
  [
    ['frob'],
    '"frob": unknown command, expected one of apply, get, delete, explain, status, ipam (see twillctl --help)',
  ],
  [['apply'], 'expected -f FILE, - for standard input (see twillctl apply --help)'],
  [['apply', '-f'], 'expected -f FILE, - for standard input (see twillctl apply --help)'],
  [['apply', 'x.yaml'], '"x.yaml": expected no further word (see twillctl apply --help)'],
  [['get'], 'expected a kind: ippools, ipreservations, namespaces or nodes (see twillctl get --help)'],
  [['get', 'ippol'], 'kind: "ippol": unknown kind, did you mean ippool? (see twillctl get --help)'],
  [['get', 'nodes', '--wide'], '--wide: unknown option (see twillctl get --help)'],
  [
    ['get', 'nodes', '-o', 'xml'],
    '--output: "xml": expected one of wide, yaml, json (see twillctl get --help)',
  ],
  [['get', 'nodes', '-o'], '-o: expected a value (see twillctl get --help)'],
  [['get', 'nodes', '--config'], '--config: expected a value (see twillctl get --help)'],
  [['delete', 'ippool', 'a', '--dry-run'], '--dry-run: unknown option (see twillctl delete --help)'],
  [['delete', 'node', 'a', '--drain'], '--drain: expected ippool, not node (see twillctl delete --help)'],
  [['delete', 'ns', 'a', '--cancel'], '--cancel: expected ippool, not ns (see twillctl delete --help)'],
  [['delete'], 'expected KIND NAME or -f FILE (see twillctl delete --help)'],
  [['delete', 'node'], 'expected a name after node (see twillctl delete --help)'],
  [
    ['delete', 'node', 'a', '-f', 'x'],
    'expected KIND NAME or -f FILE, not both (see twillctl delete --help)',
  ],
  [
    ['delete', 'constructor', 'a'],
    'kind: "constructor": unknown kind, expected one of ippools, ippool, pool, pools, ipreservations, ipreservation, reservation, reservations, namespaces, namespace, ns, nodes, node, no (see twillctl delete --help)',
  ],
  [['ipam'], 'expected show, check or repair (see twillctl ipam --help)'],
  [['ipam', 'shwo'], '"shwo": unknown command, did you mean show? (see twillctl ipam --help)'],
  [
    ['ipam', 'show', '--ip', '10.0.0.1', '--node', 'a'],
    'expected one of --blocks, --ip, --node, --pod, not --ip and --node (see twillctl ipam show --help)',
  ],
  [
    ['ipam', 'repair', '--grace', 'soon'],
    'grace: "soon": expected a duration such as 30s or 5m (see twillctl ipam repair --help)',
  ],
  [['status', 'now'], '"now": expected no further word (see twillctl status --help)'],
]

for (const [argv, line] of mistakes)
  test(`mistake: twillctl ${argv.join(' ')}`, async () => {
    const cli = new Twillctl()
    assert.equal(await cli.run(...argv), { code: 2, out: '', err: `error: ${line}\n` })
    assert.equal(cli.opened, [])
  })

for (const argv of [['--version'], ['get', '--version']])
  test(`version: twillctl ${argv.join(' ')}`, async () => {
    const cli = new Twillctl()
    assert.equal(await cli.run(...argv), { code: 0, out: `twillctl ${VERSION}\n`, err: '' })
    assert.equal(cli.opened, [])
  })

test('several files and names, in their order', () => {
  const apply = parseArguments(['apply', '-f', 'a', '--file', 'b', '-f', '-'], null)
  assert.equal(apply.type === 'command' && apply.command, { verb: 'apply', files: ['a', 'b', '-'] })
  const deletion = parseArguments(['delete', 'ippool', '007', 'b', '--drain'], null)
  assert.ok(deletion.type === 'command' && deletion.command.verb === 'delete')
  assert.equal([deletion.command.names, deletion.command.drain], [['007', 'b'], true])
})

test('a value may stand right behind its letter', () => {
  const get = parseArguments(['get', 'nodes', '-owide'], null)
  assert.ok(get.type === 'command' && get.command.verb === 'get')
  assert.is(get.command.format, 'wide')
  const apply = parseArguments(['apply', '-f-', '-fa', '-f=b'], null)
  assert.equal(apply.type === 'command' && apply.command, { verb: 'apply', files: ['-', 'a', 'b'] })
})

test('a file option eats nothing that follows', () => {
  const parsed = parseArguments(['-f', 'a', 'apply'], null)
  assert.equal(parsed.type === 'command' && parsed.command, { verb: 'apply', files: ['a'] })
})

for (const argv of [
  ['--help'],
  ['apply', '--help'],
  ['get', '-h'],
  ['delete', '--help'],
  ['status', '--help'],
  ['ipam', '--help'],
  ['ipam', 'show', '--help'],
  ['ipam', 'check', '--help'],
  ['ipam', 'repair', '--help'],
])
  test(`help: twillctl ${argv.join(' ')}`, async () => {
    const { code, out, err } = await new Twillctl().run(...argv)
    assert.equal([code, err], [0, ''])
    assert.ok(argv.length === 1 || out.includes('Examples:'), out)
  })

test.run()
