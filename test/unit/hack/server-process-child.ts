/** Starts a server, tells its pid, and does not end. */
import { atEnd, ServerProcess } from '../../fixtures/server-process.ts'

const server = new ServerProcess()
atEnd(() => server.killNow())
process.stdout.write(`${server.start(['sleep', '300']).pid}\n`)
setInterval(() => {}, 1_000)
