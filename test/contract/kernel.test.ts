/** One suite for the fake and for the real kernel, in a fresh network namespace. Needs root. */
import { suite } from 'uvu'
import { nodeContract, podContract } from './kernel-contract.ts'
import { enterOwnNamespaces, fakeWorld, realWorld, type World } from './kernel-world.ts'

enterOwnNamespaces()

function run(name: string, make: () => World | Promise<World>): void {
  const test = suite(name)
  let world: World
  test.before(async () => {
    world = await make()
  })
  podContract(test, () => world)
  nodeContract(test, () => world)
  test.after(() => world.kernel.close())
  test.run()
}

run('the fake kernel', fakeWorld)
run('the real kernel', realWorld)
