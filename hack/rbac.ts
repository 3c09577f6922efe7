/**
 * Writes the ClusterRole of deploy/manifests from the table of the daemon's rights, so that it has nothing to spare.
 * `--check`: says that it is out of date instead, and fails.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { CLUSTER_ROLE, DAEMON_RIGHTS, type Right } from '../datastore/kubernetes/rights.ts'

const FILE = 'deploy/manifests/base/rbac.yaml'
const LABELS = '{ app.kubernetes.io/name: twilld, app.kubernetes.io/part-of: twill }'

export const roleText = (name: string, rights: readonly Right[]): string =>
  `# Generated from the table in datastore/kubernetes/rights.ts by "npm run rbac".
apiVersion: rbac.authorization.k8s.io/v1
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

if (process.argv[1] === import.meta.filename) {
  const text = roleText(CLUSTER_ROLE, DAEMON_RIGHTS)
  const isCurrent = existsSync(FILE) && readFileSync(FILE, 'utf8') === text
  if (process.argv.includes('--check')) {
    console.log(
      isCurrent ? `${FILE}: ${DAEMON_RIGHTS.length} rules` : `${FILE} is out of date: run "npm run rbac"`,
    )
    process.exit(isCurrent ? 0 : 1)
  }
  if (!isCurrent) writeFileSync(FILE, text)
  console.log(isCurrent ? `${FILE} is up to date` : `written: ${FILE}`)
}
