/**
 * A path in a configuration. Where one is wanted people paste what the file should hold, which may be a secret: what cannot be
 * a path stands in no message. Each name in a path ends at 255 bytes.
 */
import { z } from 'zod'
import { PATHS } from './validation.ts'

export const absolutePath = z.string().regex(/^(\/[^/\r\n\0]{0,255})+$/, 'expected an absolute path')

PATHS.add(absolutePath)
