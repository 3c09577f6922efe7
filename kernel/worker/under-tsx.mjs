// Starts main.ts where nothing is built (tests): tsx does not reach into worker threads by itself.
import { register } from 'tsx/esm/api'

register()
await import('./main.ts')
