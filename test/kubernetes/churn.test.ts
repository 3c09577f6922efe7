/** 200 pods come and go, some deleted while they start: nothing is left of them on the nodes or in any record. */
import { churn } from '../fixtures/kubernetes/churn.ts'
import { KubernetesLab } from '../fixtures/kubernetes/lab.ts'
import { allTraces, untilClean } from '../fixtures/kubernetes/traces.ts'

const lab = new KubernetesLab('churn')
const test = lab.suite('churn', { nodes: 2 })

test('nothing is left of 200 pods, 40 of which were deleted during their start', async () => {
  const clean = await allTraces(lab)
  await churn(lab, { completions: 160, deletions: 40 })
  await untilClean(lab, clean)
})

test.run()
