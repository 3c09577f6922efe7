/** The runner must not let anything pass vacuously: each way in which uvu would is tried here. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'

const root = join(import.meta.dirname, '../../..')
const test = suite('run-tests')
const head = "import { test } from 'uvu'\nimport * as assert from 'uvu/assert'\n"

/** The file lives below the checkout, so that it finds uvu. */
function run(body: string, env: Record<string, string> = {}) {
  mkdirSync(join(root, 'dist'), { recursive: true })
  const folder = mkdtempSync(join(root, 'dist/runner-'))
  try {
    writeFileSync(join(folder, 'x.test.ts'), body)
    const tsx = join(root, 'node_modules/tsx/dist/loader.mjs')
    const args = ['--import', tsx, join(root, 'hack/run-tests.ts'), folder]
    const result = spawnSync(process.execPath, args, { encoding: 'utf8', env: { ...process.env, ...env } })
    return { status: result.status, output: result.stdout, closing: result.stdout.trim().split('\n').at(-1) }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

test('counts tests, not files', () => {
  const body = `${head}test('a', () => {})\ntest('b', () => {})\ntest('c', () => assert.is(1, 2))\ntest.run()\n`
  const { status, closing } = run(body)
  assert.is(closing, '2 passed, 1 failed')
  assert.is(status, 1)
})

test('what failed stands before what the tests printed, and once more at the end', () => {
  const body = `${head}test('a', () => { console.log('chatter'); assert.is(1, 2) })\ntest.run()\n`
  const { output } = run(body)
  const said = 'Expected values to be strictly equal'
  assert.ok(output.indexOf(said) < output.indexOf('chatter'), output)
  assert.ok(output.lastIndexOf(said) > output.indexOf('failed files:'), output)
})

test('passes what passes', () => {
  const { status, closing } = run(`${head}test('a', () => assert.is(1, 1))\ntest.run()\n`)
  assert.is(closing, '1 passed, 0 failed')
  assert.is(status, 0)
})

test('a forgotten run() fails', () => {
  const { status, output } = run(`${head}test('a', () => assert.ok(true))\n`)
  assert.match(output, /test\.run\(\) is missing/)
  assert.is(status, 1)
})

test('a second suite whose run() is forgotten fails', () => {
  // Composed, since the runner's static check reads this file too.
  const declare = (name: string) => `const ${name} = suite('${name}')\n${name}('a', () => {})\n`
  const body = `import { suite } from 'uvu'\n${declare('one')}${declare('two')}one.run()\n`
  const { status, output } = run(body)
  assert.match(output, /two\.run\(\) is missing/)
  assert.is(status, 1)
})

test('.only fails, although everything that ran passed', () => {
  const { status, output } = run(
    `${head}test('a', () => {})\ntest.only('b', () => assert.ok(1))\ntest.run()\n`,
  )
  assert.match(output, /left out by \.only/)
  assert.is(status, 1)
})

test('.skip fails', () => {
  const { status } = run(`${head}test('a', () => assert.ok(1))\ntest.skip('b', () => {})\ntest.run()\n`)
  assert.is(status, 1)
})

test('a before hook that throws fails, which uvu alone lets pass', () => {
  const body = `${head}test.before(() => { throw new Error('x') })\ntest('a', () => assert.ok(1))\ntest.run()\n`
  const { status, closing } = run(body)
  assert.is(closing, '0 passed, 1 failed')
  assert.is(status, 1)
})

test('no test at all fails', () => {
  const { status, output } = run(`${head}assert.ok(1)\ntest.run()\n`)
  assert.match(output, /holds no test/)
  assert.is(status, 1)
})

test('a file that calls process.exit(0) in mid-test fails', () => {
  assert.is(run(`${head}test('a', () => { process.exit(0) })\ntest.run()\n`).status, 1)
})

test('a rejection that nobody awaited fails', () => {
  const body = `${head}test('a', () => { setTimeout(() => { throw new Error('late') }, 1) })\ntest.run()\n`
  assert.is(run(body).status, 1)
})

test('a file that does not end is ended and fails', () => {
  const body = `${head}test('a', () => new Promise(() => setInterval(() => {}, 1000)))\ntest.run()\n`
  const { status, output } = run(body, { TWILL_TEST_TIMEOUT_MS: '3000' })
  assert.match(output, /did not end within 3 s/)
  assert.is(status, 1)
})

test('an empty folder fails', () => {
  const tsx = join(root, 'node_modules/tsx/dist/loader.mjs')
  const args = ['--import', tsx, join(root, 'hack/run-tests.ts'), join(root, 'hack')]
  assert.is(spawnSync(process.execPath, args, { cwd: root }).status, 1)
})

test('what skips itself is counted and listed as skipped, not passed', () => {
  const body = `${head}test('a', () => {
  ;(globalThis as { TWILL_SKIPPED?: object[] }).TWILL_SKIPPED?.push({ test: 'a', reason: 'no such thing' })
})
test('b', () => assert.ok(1))
test.run()
`
  const { status, output, closing } = run(body)
  assert.is(closing, '1 passed, 0 failed, 1 skipped')
  assert.match(output, /a: no such thing/)
  assert.is(status, 0)
})

test.run()
