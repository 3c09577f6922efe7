/** The store in memory that counts what its clients ask of it, and what it sends to each node that watches. */
import { PREFIX } from '../datastore/keys.ts'
import { MemoryCluster } from '../datastore/memory/cluster.ts'
import type { Commit, CommitOutcome, KeyValue } from '../datastore/store.ts'

/** What every node watches. */
const WATCHED = [PREFIX.slots, PREFIX.nodes, PREFIX.resources, 'address-space']

export class CountedCluster extends MemoryCluster {
  /** Commits, whether or not they took effect. */
  commits = 0
  /** Reads of one key. */
  reads = 0
  /** Keys and values of changes that every node is told of. What a watch lists when it begins is not in it. */
  watchedBytes = 0

  override get(key: string): KeyValue | null {
    this.reads++
    return super.get(key)
  }

  override commit(commit: Commit): CommitOutcome {
    const before = this.revision
    const { reads } = this
    const outcome = super.commit(commit)
    // It compares by a read, which is none of a client's.
    this.reads = reads
    this.commits++
    const { key, value } = commit
    if (this.revision > before && WATCHED.some(prefix => key.startsWith(prefix)))
      this.watchedBytes += key.length + (value?.length ?? 0)
    return outcome
  }

  /** By an operator: nobody's commit, though whoever watches is told. */
  put(key: string, value: unknown): void {
    const expected = super.get(key)?.modRevision ?? 0
    this.commit({ key, expected, value: value === null ? null : JSON.stringify(value) })
    this.commits--
  }

  /** What a watch of all that every node watches lists when it begins. */
  listedBytes(): number {
    return WATCHED.flatMap(prefix => this.list(prefix)).reduce(
      (sum, { key, value }) => sum + key.length + value.length,
      0,
    )
  }
}
