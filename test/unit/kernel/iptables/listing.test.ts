import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { ownPart, parseListing, reasonToDrop, restoreText } from '../../../../kernel/iptables/listing.ts'

const OWN = 'TWILL-FORWARD'
const reason = (...lines: string[]) => reasonToDrop(parseListing(lines.join('\n')), 'FORWARD', OWN)

test('a policy drops', () => {
  assert.is(reason('-P INPUT DROP', '-P FORWARD ACCEPT'), null)
  assert.is(reason('-P INPUT ACCEPT', '-P FORWARD DROP'), 'policy DROP')
})

test('a rule without a match drops, also behind a jump without a match', () => {
  assert.is(
    reason('-P FORWARD ACCEPT', '-A FORWARD -j REJECT --reject-with icmp-host-prohibited'),
    'rule -A FORWARD -j REJECT --reject-with icmp-host-prohibited',
  )
  assert.is(
    reason('-P FORWARD ACCEPT', '-N fw', '-A FORWARD -j fw', '-A fw -g end', '-A end -j DROP'),
    'rule -A end -j DROP',
  )
})

test('a rule with a match is somebody’s particular wish', () => {
  assert.is(
    reason(
      '-P FORWARD ACCEPT',
      '-N KUBE-FORWARD',
      '-A FORWARD -j KUBE-FORWARD',
      '-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP',
      '-A FORWARD -s 192.0.2.0/24 -j fw',
      '-A fw -j DROP',
    ),
    null,
  )
})

test('chains that jump in a circle, and our own, are no reason', () => {
  assert.is(reason('-P FORWARD ACCEPT', '-A FORWARD -j a', '-A a -j b', '-A b -j a'), null)
  assert.is(reason('-P FORWARD ACCEPT', `-A FORWARD -j ${OWN}`, `-A ${OWN} -j DROP`), null)
})

test('our part: rules, and every unconditional jump', () => {
  const listing = parseListing(
    [
      '-N TWILL-FORWARD',
      '-A FORWARD -i eth0 -j ACCEPT',
      `-A FORWARD -j ${OWN}`,
      `-A ${OWN} -i twl+ -j ACCEPT`,
    ].join('\n'),
  )
  assert.equal(ownPart(listing, 'FORWARD', OWN), { rules: ['-i twl+ -j ACCEPT'], jumps: [1] })
  assert.equal(ownPart(parseListing('-P FORWARD DROP'), 'FORWARD', OWN), { rules: null, jumps: [] })
})

test('put in place: emptied, filled, jumped to once, from the top', () => {
  const text = restoreText({ rules: ['-j RETURN'], jumps: [0, 3] }, 'FORWARD', OWN, [
    ['-i', 'twl+'],
    ['-o', 'twl+'],
  ])
  assert.equal(text.split('\n'), [
    '*filter',
    ':TWILL-FORWARD - [0:0]',
    '-A TWILL-FORWARD -i twl+ -j ACCEPT',
    '-A TWILL-FORWARD -o twl+ -j ACCEPT',
    '-D FORWARD -j TWILL-FORWARD',
    '-D FORWARD -j TWILL-FORWARD',
    '-I FORWARD 1 -j TWILL-FORWARD',
    'COMMIT',
    '',
  ])
})

test('taken away: nothing is left', () => {
  assert.equal(restoreText({ rules: [], jumps: [1] }, 'FORWARD', OWN, []).split('\n'), [
    '*filter',
    '-D FORWARD -j TWILL-FORWARD',
    '-F TWILL-FORWARD',
    '-X TWILL-FORWARD',
    'COMMIT',
    '',
  ])
})

test.run()
