/**
 * What zod's checks say beyond types, in CEL, so that the API server refuses what `twillctl apply` does, in the same words.
 * test/integration/kubernetes-definitions.test.ts holds one against the other.
 *
 * Traps: every rule of an object is judged, also where the one about a field's own form has failed, so each that reads a
 * prefix asks `isCIDR` first. What a rule costs is estimated from maxLength and maxItems, and a definition that may cost
 * too much is refused as a whole; comparing what `ip()` makes counts as boundless, what `cidr().ip()` makes does not.
 */

import { RESERVED } from '../../resources/cidr.ts'
import { BLOCK_SIZE, USES } from '../../resources/ippool.ts'
import { LABEL_KEY } from '../../resources/metadata.ts'
import { MATCH_LABELS_MAX } from '../../resources/selector.ts'
import type { Addition, Additions, Rule } from './schema.ts'

/** 0123:4567:89ab:cdef:0123:4567:89ab:cdef/128 */
const CIDR_LENGTH = 43
/** With an address in dots at its end. */
const IP_LENGTH = 45

const EXPECTED_CIDR = 'expected a prefix such as 10.0.0.0/16 or fd00::/64, without bits beyond its length'
const IS_PREFIX = 'isCIDR(self) && cidr(self) == cidr(self).masked()'
const PREFIX: Rule = {
  rule: `${IS_PREFIX} && !(self.contains(':') && self.contains('.'))`,
  message: EXPECTED_CIDR,
}

const reserved: Rule[] = RESERVED.map(([range, purpose]) => ({
  rule: `!isCIDR(self) || !(cidr('${range}').containsCIDR(self) || cidr(self).containsCIDR('${range}'))`,
  message: `expected a range outside ${range}: ${purpose}`,
}))

const familyOf = (pool: string) => `cidr(${pool}.cidr).ip().family()`
const isForIpam = (pool: string) => `'ipam' in ${pool}.allowedUses`
const blockSizeOf = (pool: string) =>
  `(has(${pool}.blockSize) ? ${pool}.blockSize : ${familyOf(pool)} == 4 ? ${BLOCK_SIZE[4].default} : ${BLOCK_SIZE[6].default})`
const isNetwork = (pool: string, address: string) =>
  `cidr(${address} + (${familyOf(pool)} == 4 ? '/32' : '/128')).ip() == cidr(${pool}.cidr).ip()`
/** The first address after the network's own: the other half of its /31. */
const isFirstUsable = (pool: string, address: string) =>
  `(!(${isNetwork(pool, address)}) && cidr(${address} + (${familyOf(pool)} == 4 ? '/31' : '/127')).masked().ip() == cidr(${pool}.cidr).ip())`
/** Of IPv4. */
const numberOf = (address: string) =>
  `[0, 1, 2, 3].map(i, int(${address}.split('.')[i]) * [16777216, 65536, 256, 1][i]).sum()`
const SIZES_4 = `[${Array.from({ length: 33 }, (_, prefix) => 2 ** (32 - prefix)).join(', ')}]`
const isLastOf4 = (pool: string, address: string) =>
  `(${numberOf(address)} + 1) % ${SIZES_4}[cidr(${pool}.cidr).prefixLength()] == 0`

const boundsOf = (family: 4 | 6) => `/${BLOCK_SIZE[family].min} to /${BLOCK_SIZE[family].max}`
const withinBounds = (family: 4 | 6) =>
  `(${blockSizeOf('self')} >= ${BLOCK_SIZE[family].min} && ${blockSizeOf('self')} <= ${BLOCK_SIZE[family].max})`

const whereCidr = (rule: string) => `!isCIDR(self.cidr) || (${rule})`
const whereGateway = (rule: string) =>
  `!has(self.gateway) || !isIP(self.gateway) || !isCIDR(self.cidr) || (${rule})`

const POOL_RULES: Rule[] = [
  {
    rule: '!has(self.mode) || !has(self.encapsulation)',
    message: 'expected none beside mode, which stands for encapsulation and routes',
    fieldPath: '.encapsulation',
  },
  {
    rule: '!has(self.mode) || !has(self.routes)',
    message: 'expected none beside mode, which stands for encapsulation and routes',
    fieldPath: '.routes',
  },
  {
    rule: `!(${isForIpam('self')}) || size(self.allowedUses) == 1`,
    message: 'expected ipam alone: such a pool has no routes',
    fieldPath: '.allowedUses',
  },
  {
    rule: whereCidr(`${familyOf('self')} == 4 ? ${withinBounds(4)} : ${withinBounds(6)}`),
    message: `expected ${boundsOf(4)} for IPv4, ${boundsOf(6)} for IPv6`,
    fieldPath: '.blockSize',
  },
  {
    rule: whereCidr(`${blockSizeOf('self')} >= cidr(self.cidr).prefixLength()`),
    message: "expected the length of the pool's own prefix or longer: a slot is no larger than its pool",
    fieldPath: '.blockSize',
  },
  {
    rule: whereCidr(
      `!(${isForIpam('self')}) || cidr(self.cidr).prefixLength() <= (${familyOf('self')} == 4 ? 30 : 126)`,
    ),
    message: 'expected /30, for IPv6 /126, or shorter for ipam: a gateway and addresses besides',
    fieldPath: '.cidr',
  },
  {
    rule: `!has(self.gateway) || ${isForIpam('self')}`,
    message: 'expected none unless allowedUses is [ipam]',
    fieldPath: '.gateway',
  },
  {
    rule: whereGateway(
      `cidr(self.cidr).containsIP(self.gateway) && !(${isNetwork('self', 'self.gateway')}) && (${familyOf('self')} == 6 || !(${isLastOf4('self', 'self.gateway')}))`,
    ),
    message: "expected an address of a host in the pool's prefix",
    fieldPath: '.gateway',
  },
  {
    rule: `!has(self.natOutgoingExclusions) || size(self.natOutgoingExclusions) == 0 || !(${isForIpam('self')})`,
    message: 'expected none: nothing of a pool for ipam is masqueraded',
    fieldPath: '.natOutgoingExclusions',
  },
  {
    rule: '!has(self.natOutgoingExclusions) || size(self.natOutgoingExclusions) == 0 || self.natOutgoing',
    message: 'expected none unless natOutgoing is true',
    fieldPath: '.natOutgoingExclusions',
  },
  {
    rule: whereCidr(
      `!has(self.natOutgoingExclusions) || self.natOutgoingExclusions.all(each, !isCIDR(each) || cidr(each).ip().family() == ${familyOf('self')})`,
    ),
    message: "expected prefixes of the pool's family",
    fieldPath: '.natOutgoingExclusions',
  },
  {
    rule: `!isCIDR(self.cidr) || !isCIDR(oldSelf.cidr) || ${blockSizeOf('self')} == ${blockSizeOf('oldSelf')}`,
    message: 'expected no other than before: immutable',
    fieldPath: '.blockSize',
  },
  {
    rule: `(${isForIpam('self')}) == (${isForIpam('oldSelf')})`,
    message: 'expected ipam to stay or to stay away: immutable',
    fieldPath: '.allowedUses',
  },
  {
    rule: whereCidr(
      `(has(self.gateway) && has(oldSelf.gateway)) ? self.gateway == oldSelf.gateway : (!has(self.gateway) || !isIP(self.gateway) || ${isFirstUsable('self', 'self.gateway')}) && (!has(oldSelf.gateway) || !isIP(oldSelf.gateway) || ${isFirstUsable('self', 'oldSelf.gateway')})`,
    ),
    message: 'expected no other than before: immutable',
    fieldPath: '.gateway',
  },
]

const isRange = "(self.split('-').size() == 2 && self.split('-').all(end, isIP(end)))"

const NAME_LENGTH = 63
/** `example.com/`, and a name. */
const KEY_LENGTH = 253 + 1 + NAME_LENGTH

const selector = (path: string): Additions => ({
  [`${path}.matchLabels`]: {
    maxProperties: MATCH_LABELS_MAX,
    rules: [
      {
        rule: `self.all(key, key.matches(r'${LABEL_KEY.source}'))`,
        message: 'expected label names such as zone or example.com/zone',
      },
    ],
  },
  [`${path}.matchLabels{}`]: { maxLength: NAME_LENGTH },
  [`${path}.matchExpressions[]`]: {
    rules: [
      {
        rule: "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : !has(self.values) || size(self.values) == 0",
        message: 'expected at least one value for In and NotIn, none for Exists and DoesNotExist',
        fieldPath: '.values',
      },
    ],
  },
  [`${path}.matchExpressions[].key`]: { maxLength: KEY_LENGTH },
  [`${path}.matchExpressions[].values[]`]: { maxLength: NAME_LENGTH },
})

const CIDR: Addition = { maxLength: CIDR_LENGTH, rules: [PREFIX] }

export const RULES: Readonly<Record<'IPPool' | 'IPReservation', Additions>> = {
  IPPool: {
    spec: { rules: POOL_RULES },
    'spec.cidr': {
      maxLength: CIDR_LENGTH,
      rules: [
        PREFIX,
        ...reserved,
        {
          rule: 'self == oldSelf',
          message: 'expected no other than before: immutable',
          messageExpression: "'expected ' + oldSelf + ': immutable'",
        },
      ],
    },
    'spec.natOutgoingExclusions[]': CIDR,
    'spec.gateway': {
      maxLength: IP_LENGTH,
      rules: [{ rule: 'isIP(self)', message: "expected an address of a host in the pool's prefix" }],
    },
    'spec.allowedUses': { listType: 'set', minItems: 1, maxItems: USES.length },
    ...selector('spec.nodeSelector'),
    ...selector('spec.namespaceSelector'),
  },
  IPReservation: {
    'spec.addresses[]': {
      maxLength: 2 * IP_LENGTH + 1,
      rules: [
        {
          rule: `isIP(self) || (${IS_PREFIX}) || ${isRange}`,
          message: 'expected an address, a prefix, or a range such as 10.0.0.5-10.0.0.9',
        },
        {
          rule: `!(${isRange}) || ip(self.split('-')[0]).family() == ip(self.split('-')[1]).family()`,
          message: 'expected two addresses of one family, the lower first',
        },
        {
          rule: `!(${isRange}) || self.contains(':') || ${numberOf("self.split('-')[0]")} <= ${numberOf("self.split('-')[1]")}`,
          message: 'expected two addresses of one family, the lower first',
        },
      ],
    },
  },
}
