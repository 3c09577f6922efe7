/** A daemon's connection to the API server. */
import { readFile } from 'node:fs/promises'
import {
  type ClientModules,
  connectKubernetes,
  type KubernetesClient,
} from '../../datastore/kubernetes/client.ts'
import type { KubernetesSettings } from '../../datastore/settings.ts'

/** @throws config.invalid: the kubeconfig */
export function connectDaemon(
  settings: KubernetesSettings,
  modules: Pick<ClientModules, 'clock' | 'log' | 'onAnswer'>,
): Promise<KubernetesClient> {
  return connectKubernetes(settings, {
    ...modules,
    log: modules.log.child({ part: 'kubernetes' }),
    readFile: path => readFile(path),
    environment: process.env,
  })
}

/** null: it is not enabled. */
export async function connectIfEnabled(
  settings: KubernetesSettings,
  modules: Parameters<typeof connectDaemon>[1],
): Promise<KubernetesClient | null> {
  return settings.enabled ? connectDaemon(settings, modules) : null
}
