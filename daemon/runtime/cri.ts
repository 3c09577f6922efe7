/**
 * What the container runtime says exists, asked over the Container Runtime Interface (runtime.v1, gRPC over a Unix
 * socket): its sandboxes, and the addresses of those that somebody asks about. Reads only.
 */
import { existsSync } from 'node:fs'
import { Client, credentials } from '@grpc/grpc-js'
import type { Clock } from '../../lib/clock.ts'
import { messageOf } from '../../lib/errors.ts'
import { decodeMessage, encodeText, type Message, messageFields, numberField, textField } from './wire.ts'

export interface Sandbox {
  readonly id: string
  readonly pod: { readonly namespace: string; readonly name: string }
  readonly ready: boolean
}

export interface RuntimeConnection {
  sandboxes(): Promise<Sandbox[]>
  /** [] for one that is on the node's own network. Rejects when it is gone. */
  addressesOf(sandboxId: string): Promise<string[]>
  close(): void
}

/** Where Debian's and upstream's runtimes listen. */
export const KNOWN_SOCKETS = ['/run/containerd/containerd.sock', '/run/crio/crio.sock'] as const
const DEADLINE_MS = 10_000
const SERVICE = '/runtime.v1.RuntimeService/'

/**
 * @param configured a socket's path; 'none': no runtime is to be asked; null: the first known one that is there
 * @returns null: there is none
 */
export function runtimeSocket(
  configured: string | null,
  exists: (path: string) => boolean = existsSync,
): string | null {
  if (configured === 'none') return null
  return configured ?? KNOWN_SOCKETS.find(path => exists(path)) ?? null
}

export function connectRuntime(socket: string, { clock }: { clock: Clock }): RuntimeConnection {
  const client = new Client(`unix://${socket}`, credentials.createInsecure())
  const call = (method: string, request: Uint8Array): Promise<Message> =>
    new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        `${SERVICE}${method}`,
        (bytes: Uint8Array) => Buffer.from(bytes),
        (bytes: Buffer) => decodeMessage(bytes),
        request,
        { deadline: clock.realtimeMs() + DEADLINE_MS },
        (error, answer) => {
          if (error || answer === undefined) reject(new Error(`${method}: ${messageOf(error)}`))
          else resolve(answer)
        },
      )
    })
  return {
    async sandboxes() {
      return messageFields(await call('ListPodSandbox', Buffer.alloc(0)), 1).map(sandboxOf)
    },
    async addressesOf(id) {
      return addressesIn(await call('PodSandboxStatus', encodeText(1, id)))
    },
    close: () => client.close(),
  }
}

/** PodSandbox: id = 1, metadata = 2 {name = 1, namespace = 3}, state = 3 (0: ready). */
export function sandboxOf(message: Message): Sandbox {
  const [metadata] = messageFields(message, 2)
  return {
    id: textField(message, 1),
    pod: {
      namespace: metadata ? textField(metadata, 3) : '',
      name: metadata ? textField(metadata, 1) : '',
    },
    ready: numberField(message, 3) === 0,
  }
}

/** PodSandboxStatusResponse: status = 1 {network = 5 {ip = 1, additional_ips = 2 {ip = 1}}}. */
export function addressesIn(response: Message): string[] {
  const networks = messageFields(response, 1).flatMap(status => messageFields(status, 5))
  return networks
    .flatMap(network => [network, ...messageFields(network, 2)])
    .map(each => textField(each, 1))
    .filter(address => address !== '')
}
