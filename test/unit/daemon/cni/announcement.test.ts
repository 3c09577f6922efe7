/** What runtimes are told of the network, and when: plugins of the chain that are there, and when they come and go. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Announcement } from '../../../../daemon/cni/announcement.ts'
import { type Chainable, ChainSurvey, pluginFolder } from '../../../../daemon/cni/chain.ts'
import { OFFERED_VERSIONS } from '../../../../daemon/cni/conflist.ts'
import { pluginVersions } from '../../../../kernel/cni-plugin.ts'
import { silentLog } from '../../../../lib/log.ts'
import { ManualClock } from '../../../fixtures/manual-clock.ts'

interface Place {
  readonly folder: string
  readonly bin: string
  readonly conflist: string
}

const test = suite<Place>('announcement')
const EVERY_MS = 60_000

test.before.each(place => {
  const folder = mkdtempSync(join(tmpdir(), 'twsa-'))
  Object.assign(place, {
    folder,
    bin: join(folder, 'bin'),
    conflist: join(folder, 'net.d', '10-twill.conflist'),
  })
  mkdirSync(place.bin)
})
test.after.each(({ folder }) => rmSync(folder, { recursive: true }))

/** A program that answers VERSION, and only VERSION. */
function install(path: string, versions: readonly string[]): void {
  const answer = JSON.stringify({ cniVersion: '1.0.0', supportedVersions: versions })
  writeFileSync(path, `#!/bin/sh\n[ "$CNI_COMMAND" = VERSION ] && echo '${answer}'\n`, { mode: 0o755 })
}

interface Changes {
  readonly serves?: () => boolean
  readonly chain?: Chainable[]
  readonly executables?: { install(): Promise<string[]> }
}

function announcementOf(place: Place, changes: Changes = {}) {
  const clock = new ManualClock()
  let announced = 0
  const { bin: binDir, conflist } = place
  const { chain = ['portmap', 'bandwidth'], serves = () => true, executables = null } = changes
  const announcement = new Announcement(
    { conflist, network: 'pods', binDir, chain, everyMs: EVERY_MS },
    {
      clock,
      log: silentLog,
      survey: new ChainSurvey({ versionsOf: pluginVersions }),
      executables,
      serves,
      announced: () => announced++,
    },
  )
  /** Programs are real ones, so that time goes on until what is waited for is there. */
  const until = async (is: () => boolean) => {
    for (let tries = 0; !is(); tries++) {
      if (tries > 20_000) throw new Error('it never came to it')
      await clock.advance(1_000)
      await new Promise(resolve => setTimeout(resolve, 5))
    }
  }
  const stop = async () => {
    let stopped = false
    announcement.stop().then(() => {
      stopped = true
    })
    await until(() => stopped)
  }
  const types = () => {
    try {
      return JSON.parse(readFileSync(conflist, 'utf8'))
        .plugins.map((each: { type: string }) => each.type)
        .join()
    } catch {
      return 'none'
    }
  }
  return { announcement, clock, until, stop, types, announced: () => announced }
}

test('nothing is written before pods can be attached', async place => {
  let serves = false
  const { announcement, clock, stop, until, types, announced } = announcementOf(place, {
    serves: () => serves,
  })
  announcement.start()
  for (let i = 0; i < 20; i++) {
    await clock.advance(1_000)
    await new Promise(resolve => setTimeout(resolve, 5))
    assert.equal([types(), announced()], ['none', 0])
  }
  assert.match(announcement.missing ?? '', 'not written yet')
  serves = true
  await until(() => announced() === 1)
  assert.equal([types(), announcement.missing], ['twill', null])
  await stop()
})

test('plugins that come, change and go are told of; who is missing is a condition', async place => {
  const portmap = join(place.bin, 'portmap')
  const versions = () => JSON.parse(readFileSync(place.conflist, 'utf8')).cniVersions
  const { announcement, until, stop, types, announced } = announcementOf(place)
  announcement.start()
  await until(() => types() === 'twill')
  assert.equal(
    announcement.conditions().map(({ message }) => message),
    [
      `${portmap} is not there: pods that ask for a hostPort are refused`,
      `${join(place.bin, 'bandwidth')} is not there: pods that ask for a bandwidth are refused`,
    ],
  )
  install(portmap, ['0.4.0', '1.0.0'])
  await until(() => types() === 'twill,portmap')
  assert.equal(versions(), ['0.4.0', '1.0.0'])
  install(portmap, ['0.4.0', '1.0.0', '1.1.0'])
  await until(() => versions().includes('1.1.0'))
  install(join(place.bin, 'bandwidth'), ['1.0.0'])
  await until(() => types() === 'twill,portmap,bandwidth')
  assert.equal([versions(), announcement.conditions()], [['1.0.0'], []])
  rmSync(portmap)
  await until(() => types() === 'twill,bandwidth')
  assert.is(announced(), 1)
  await stop()
})

test('a configuration that somebody took away comes back, and one that cannot be written says why', async place => {
  writeFileSync(join(place.folder, 'net.d'), 'no folder')
  const { announcement, until, stop, types, announced } = announcementOf(place, { chain: [] })
  announcement.start()
  await until(() => announcement.missing?.includes('could not be written') === true)
  assert.is(announced(), 0)
  rmSync(join(place.folder, 'net.d'))
  await until(() => types() === 'twill')
  rmSync(place.conflist)
  await until(() => types() === 'twill')
  rmSync(join(place.folder, 'net.d'), { recursive: true })
  writeFileSync(join(place.folder, 'net.d'), 'no folder')
  await until(() => announcement.conditions().length > 0)
  assert.equal([announcement.missing, announcement.conditions()[0]?.type], [null, 'NotAnnounced'])
  await stop()
})

test('runtimes are told only when the executables are there, and it is tried again', async place => {
  let full = true
  const executables = {
    async install() {
      if (full) throw new Error('ENOSPC: no space left on device')
      return ['twill']
    },
  }
  const { announcement, until, stop, types, announced } = announcementOf(place, { chain: [], executables })
  announcement.start()
  await until(
    () => announcement.missing === 'the executables could not be installed: ENOSPC: no space left on device',
  )
  assert.equal([types(), announced()], ['none', 0])
  full = false
  await until(() => announced() === 1)
  full = true
  await until(() => announcement.conditions().length === 1)
  assert.equal([types(), announcement.missing], ['twill', null])
  await stop()
})

test('what cannot be installed is tried again soon, then ever less often', async place => {
  let attempts = 0
  const executables = {
    async install() {
      attempts++
      throw new Error('EIO')
    },
  }
  const { announcement, clock, stop } = announcementOf(place, { chain: [], executables })
  announcement.start()
  const begun = clock.boottimeMs()
  const at: number[] = []
  while (clock.boottimeMs() - begun < 10 * EVERY_MS) {
    const before = attempts
    await clock.advance(1_000)
    if (attempts > before) at.push((clock.boottimeMs() - begun) / 1_000)
  }
  assert.ok((at[2] ?? 99) <= 8, `soon: ${at.join()}`)
  assert.ok(attempts <= 16, `not once a second: ${attempts} in ten minutes`)
  await stop()
})

test('a plugin that shares no version with those before it is left out', async ({ bin }) => {
  install(join(bin, 'portmap'), ['0.4.0'])
  install(join(bin, 'bandwidth'), ['1.0.0'])
  const survey = new ChainSurvey({ versionsOf: pluginVersions })
  const { plugins, problems } = await survey.look(bin, ['portmap', 'bandwidth'], OFFERED_VERSIONS)
  assert.equal(
    plugins.map(({ name }) => name),
    ['portmap'],
  )
  assert.match(
    problems.join(),
    /bandwidth speaks none of the CNI versions 0\.4\.0: pods that ask for a bandwidth/,
  )
})

test('a plugin that answered is not asked again while it is the same file', async ({ bin }) => {
  let asked = 0
  install(join(bin, 'portmap'), ['1.0.0'])
  const survey = new ChainSurvey({
    versionsOf: path => {
      asked++
      return pluginVersions(path)
    },
  })
  for (let i = 0; i < 3; i++) await survey.look(bin, ['portmap'], OFFERED_VERSIONS)
  assert.is(asked, 1)
})

test('the folder is the configured one, else the known one in which twill is', async ({ folder, bin }) => {
  const other = join(folder, 'other')
  assert.is(await pluginFolder('/configured', [bin]), '/configured')
  assert.is(await pluginFolder(null, [other, bin]), null)
  install(join(bin, 'twill'), [])
  assert.is(await pluginFolder(null, [other, bin]), bin)
  const survey = new ChainSurvey({ versionsOf: pluginVersions })
  const { problems } = await survey.look(null, ['portmap'], OFFERED_VERSIONS)
  assert.match(problems.join(), /portmap is not looked for: twill is in none of .*cni\.binDir/)
})

test.run()
