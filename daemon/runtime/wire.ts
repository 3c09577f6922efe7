/**
 * As much of protobuf's wire format as the runtime's answers need (protobuf.dev, "Encoding"):
 *
 *   field  varint (number << 3 | type)   then   type 0: varint   1: 8 bytes   2: varint length, bytes   5: 4 bytes
 *
 * Fields that are not asked for are skipped, so that a newer runtime's answers are read too.
 */
import { TwillError } from '../../lib/errors.ts'

/** Field number → its occurrences, in order; varints as numbers. */
export type Message = ReadonlyMap<number, readonly (Uint8Array | number)[]>

/** @throws frame.invalid */
export function decodeMessage(bytes: Uint8Array): Message {
  const fields = new Map<number, (Uint8Array | number)[]>()
  const reader = new Reader(bytes)
  while (!reader.done) {
    const tag = reader.varint()
    const [number, type] = [Math.floor(tag / 8), tag % 8]
    const value = type === 0 ? reader.varint() : reader.bytes(lengthOf(type, reader))
    fields.set(number, [...(fields.get(number) ?? []), value])
  }
  return fields
}

function lengthOf(type: number, reader: Reader): number {
  if (type === 1) return 8
  if (type === 2) return reader.varint()
  if (type === 5) return 4
  throw new TwillError('frame.invalid', `protobuf: wire type ${type}, expected 0, 1, 2 or 5`)
}

class Reader {
  readonly #bytes: Uint8Array
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  get done(): boolean {
    return this.#at >= this.#bytes.length
  }

  /** Of 64 bits; what is beyond 2^53 loses its last digits, and nothing here goes that far. */
  varint(): number {
    let value = 0
    for (let factor = 1; factor < 2 ** 64; factor *= 128) {
      const byte = this.bytes(1)[0] as number
      value += (byte & 0x7f) * factor
      if (byte < 0x80) return value
    }
    throw new TwillError('frame.invalid', 'protobuf: a varint of more than ten bytes')
  }

  bytes(length: number): Uint8Array {
    const end = this.#at + length
    if (end > this.#bytes.length)
      throw new TwillError('frame.invalid', `protobuf: ${end - this.#bytes.length} bytes are missing`)
    const found = this.#bytes.subarray(this.#at, end)
    this.#at = end
    return found
  }
}

/** '' when it is not there, as protobuf has it. */
export function textField(message: Message, number: number): string {
  const value = message.get(number)?.at(-1)
  return value instanceof Uint8Array ? Buffer.from(value).toString('utf8') : ''
}

/** 0 when it is not there. */
export function numberField(message: Message, number: number): number {
  const value = message.get(number)?.at(-1)
  return typeof value === 'number' ? value : 0
}

export function messageFields(message: Message, number: number): Message[] {
  return (message.get(number) ?? []).flatMap(value =>
    value instanceof Uint8Array ? [decodeMessage(value)] : [],
  )
}

/** A message of one text field; shorter than 16 KiB. */
export function encodeText(number: number, text: string): Uint8Array {
  const bytes = Buffer.from(text)
  const length = bytes.length < 128 ? [bytes.length] : [(bytes.length % 128) + 128, bytes.length >> 7]
  return Buffer.concat([Buffer.from([number * 8 + 2, ...length]), bytes])
}
