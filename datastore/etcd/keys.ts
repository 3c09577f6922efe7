/** Keys and values between etcd's bytes and the Store's text. */
import type { IKeyValue } from 'etcd3'
import type { KeyValue } from '../store.ts'

export function decode(kv: IKeyValue, prefix: string): KeyValue {
  return {
    key: kv.key.toString('utf8').slice(prefix.length),
    value: kv.value.toString('utf8'),
    modRevision: Number(kv.mod_revision),
  }
}

/** First key after all that begin with these bytes (etcd's range_end). The last byte is never 0xff in UTF-8. */
export function prefixEnd(prefix: Buffer): Buffer {
  const end = Buffer.from(prefix)
  end[end.length - 1] = (end.at(-1) as number) + 1
  return end
}
