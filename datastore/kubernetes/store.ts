/** The Store on custom resources: for clusters whose etcd nobody may touch. What is not obvious is in docs/datastore.md. */
import { ObjectStore, type ObjectStoreModules } from './object-store.ts'
import { RECORD_KINDS, Records } from './records.ts'

/** The client stays open when the store is closed. */
export const kubernetesStore = (modules: ObjectStoreModules): ObjectStore =>
  new ObjectStore(
    {
      hasIdentity: true,
      collections: known => RECORD_KINDS.map(kind => new Records({ kind, ...known }, modules)),
    },
    modules,
  )
