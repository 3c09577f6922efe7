/** A watch's answer: one JSON object a line, in chunks that end anywhere. */
const NEWLINE = 0x0a

/** @returns the lines that this chunk brought to their end, in order, without empty ones */
export class Lines {
  #rest: Buffer[] = []

  push(chunk: Buffer): string[] {
    const lines: string[] = []
    let begin = 0
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, begin)) {
      const line = Buffer.concat([...this.#rest, chunk.subarray(begin, end)])
      this.#rest = []
      if (line.length > 0) lines.push(line.toString('utf8'))
      begin = end + 1
    }
    if (begin < chunk.length) this.#rest.push(chunk.subarray(begin))
    return lines
  }
}
