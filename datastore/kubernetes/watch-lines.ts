/** A watch's answer: one JSON object a line, in chunks that end anywhere. */
import { TwillError } from '../../lib/errors.ts'

const NEWLINE = 0x0a
/** Far more than any store keeps of one object: whoever sends a longer line sends no objects. */
const LINE_MAX = 32 * 1024 * 1024

/** @returns the lines that this chunk brought to their end, in order, without empty ones */
export class Lines {
  readonly #max: number
  #rest: Buffer[] = []
  #restBytes = 0

  constructor({ maxBytes = LINE_MAX }: { readonly maxBytes?: number } = {}) {
    this.#max = maxBytes
  }

  /** @throws kubernetes.unavailable: the line has no end */
  push(chunk: Buffer): string[] {
    const lines: string[] = []
    let begin = 0
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, begin)) {
      const line = Buffer.concat([...this.#rest, chunk.subarray(begin, end)])
      this.#rest = []
      this.#restBytes = 0
      if (line.length > 0) lines.push(line.toString('utf8'))
      begin = end + 1
    }
    if (begin < chunk.length) this.#keep(chunk.subarray(begin))
    return lines
  }

  #keep(part: Buffer): void {
    this.#restBytes += part.length
    if (this.#restBytes > this.#max) {
      const reason = `a line of a watch is longer than ${this.#max} bytes`
      throw new TwillError('kubernetes.unavailable', reason, { reason, sent: true }, { retryable: true })
    }
    this.#rest.push(part)
  }
}
