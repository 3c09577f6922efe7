/**
 * Writes the ClusterRole of deploy/manifests from the tables of the daemon's rights, so that it has nothing to spare: the
 * role, and what is added to it where records are custom resources. `--check`: says what is out of date instead, and fails.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { CLUSTER_ROLE, DAEMON_RIGHTS, RECORD_RIGHTS, type Right } from '../datastore/kubernetes/rights.ts'

const LABELS = '{ app.kubernetes.io/name: twilld, app.kubernetes.io/part-of: twill }'
const HEADER = '# Generated from the tables in datastore/kubernetes/rights.ts by "npm run rbac".\n'

export const roleText = (name: string, rights: readonly Right[]): string =>
  `${HEADER}apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: ${name}
  labels: ${LABELS}
rules:
${rights.map(ruleText).join('')}---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: ${name}
  labels: ${LABELS}
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: ${name} }
subjects:
  - { kind: ServiceAccount, name: twilld, namespace: twill-system }
`

const ruleText = ({ group, resource, verbs, why }: Right): string =>
  `  # ${why}
  - apiGroups: ['${group}']
    resources: [${resource}]
    verbs: [${verbs.join(', ')}]
`

/** RFC 6902, as a patch of kustomize. */
const additionsText = (rights: readonly Right[]): string => HEADER + rights.map(additionText).join('')

const additionText = ({ group, resource, verbs, why }: Right): string =>
  `# ${why}
- op: add
  path: /rules/-
  value: { apiGroups: ['${group}'], resources: [${resource}], verbs: [${verbs.join(', ')}] }
`

const FILES: Readonly<Record<string, string>> = {
  'deploy/manifests/base/rbac.yaml': roleText(CLUSTER_ROLE, DAEMON_RIGHTS),
  'deploy/manifests/kubernetes/rights.yaml': additionsText(RECORD_RIGHTS),
}

if (process.argv[1] === import.meta.filename) {
  const isCurrent = ([file, text]: [string, string]) =>
    existsSync(file) && readFileSync(file, 'utf8') === text
  const stale = Object.entries(FILES).filter(each => !isCurrent(each))
  if (process.argv.includes('--check')) {
    for (const [file] of stale) console.log(`${file} is out of date: run "npm run rbac"`)
    process.exit(stale.length === 0 ? 0 : 1)
  }
  for (const [file, text] of stale) {
    writeFileSync(file, text)
    console.log(`written: ${file}`)
  }
}
