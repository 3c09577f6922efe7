/**
 * The demo on a real Kubernetes: a cluster from nothing, pods on two nodes that talk, a Service, and what Twill made of
 * it. Each line says what happened and how long it took.
 */
import { line, play, quote, say, timed } from '../story.ts'
import { KubernetesCluster } from './cluster.ts'
import { IMAGES } from './images.ts'
import { SERVICES } from './layout.ts'

const WEB = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: DoNotSchedule
          labelSelector: {matchLabels: {app: web}}
      containers:
        - name: web
          image: ${IMAGES.agnhost}
          args: [netexec, --http-port=80]
          readinessProbe: {httpGet: {port: 80, path: /healthz}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]}
`

interface Pod {
  metadata: { name: string }
  spec: { nodeName: string }
  status: { podIPs: { ip: string }[] }
}

const inUrl = (address: string) => (address.includes(':') ? `[${address}]` : address)

class Demo {
  readonly #cluster: KubernetesCluster

  constructor(cluster: KubernetesCluster) {
    this.#cluster = cluster
  }

  async #kubectl(words: string): Promise<string> {
    return (await this.#cluster.mustKubectl(words.split(' '))).trim()
  }

  /** In the order of their nodes. */
  async #pods(): Promise<Pod[]> {
    const { items } = JSON.parse(await this.#kubectl('get pods -l app=web -o json')) as { items: Pod[] }
    return items.sort((a, b) => (a.spec.nodeName < b.spec.nodeName ? -1 : 1))
  }

  #ask(from: Pod, address: string, path: string): Promise<string> {
    return this.#kubectl(`exec ${from.metadata.name} -- curl -gsS -m 5 http://${inUrl(address)}/${path}`)
  }

  async tell(): Promise<void> {
    say('A Kubernetes: an API server with etcd, two nodes with containerd, kubelet, kube-proxy, and Twill')
    await this.#cluster.up({ nodes: 2, cni: 'twill', install: 'daemonset', onStep: line })
    say('A Deployment of two pods, one on each node, and a Service before them')
    await timed('kubectl apply, until both are ready', async () => {
      await this.#cluster.mustKubectl(['apply', '-f', '-'], WEB)
      await this.#kubectl('rollout status deployment/web --timeout=120s')
      return (await this.#pods()).map(pod => `${pod.metadata.name} on ${pod.spec.nodeName}`).join(', ')
    })
    await this.#talk()
    await this.#service()
    await this.#whatStands()
  }

  async #talk(): Promise<void> {
    say('They talk, each under its own address')
    const [one, other] = (await this.#pods()) as [Pod, Pod]
    for (const { ip } of other.status.podIPs)
      await timed(`the pod on ${one.spec.nodeName} asks ${ip} on ${other.spec.nodeName}`, async () => {
        const [who, seen] = [await this.#ask(one, ip, 'hostname'), await this.#ask(one, ip, 'clientip')]
        return `I am ${who}, you are ${seen.replace(/:\d+$/, '')}`
      })
  }

  async #service(): Promise<void> {
    say('A Service')
    const [one] = (await this.#pods()) as [Pod]
    const addresses = (await this.#kubectl('get service web -o jsonpath={.spec.clusterIPs[*]}')).split(' ')
    for (const address of [...addresses, 'web.default.svc.cluster.local'])
      await timed(`a pod asks ${address} until each has answered`, async () => {
        const heard = new Set<string>()
        for (let i = 0; i < 60 && heard.size < 2; i++) heard.add(await this.#ask(one, address, 'hostname'))
        if (heard.size < 2) throw new Error(`${address}: only ${[...heard].join()} answered`)
        return [...heard].sort().join(' and ')
      })
  }

  async #whatStands(): Promise<void> {
    say('What stands')
    await this.#kubectl('wait ippool --all --for=condition=Accepted --timeout=60s')
    for (const words of [
      'get nodes -o wide',
      'get pods -A -o wide',
      'get ippools -o wide',
      'exec -n twill-system ds/twilld -- twillctl get nodes',
      'exec -n twill-system ds/twilld -- twillctl ipam show',
    ])
      quote(`kubectl ${words}`, await this.#kubectl(words))
    const leaks = (await this.#cluster.rig.leaks()).map(leak => `${leak.kind} ${leak.packets}`)
    console.log(`\ndropped by the underlay for carrying a pod's address: ${leaks.join(', ')}`)
  }
}

const cluster = new KubernetesCluster(process.env.TWILL_CLUSTER ?? 'twill')
await play({
  title: 'Twill in Kubernetes',
  rig: cluster,
  story: () => new Demo(cluster).tell(),
  next: () =>
    ['status', 'kubectl get services -A', `exec node1 -- nc -zv ${SERVICES.dns} 53`, 'down'].map(
      words => `hack/kubernetes ${words}`,
    ),
})
