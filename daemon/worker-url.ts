/** The bundle has its worker beside it; from source it is found by the kernel itself. */
export function workerUrl(): URL | undefined {
  return import.meta.url.endsWith('.mjs') ? new URL('./kernel-worker.mjs', import.meta.url) : undefined
}
