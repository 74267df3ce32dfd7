import assert from 'node:assert/strict'
import { cp, mkdtemp, readFile, readdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import { Spool } from './spool.mjs'

const newDirectory = () => mkdtemp(join(tmpdir(), 'spool-'))
const open = (dir, bytesMax = 1 << 20) => Spool.open(dir, 'test', bytesMax)
const append = (spool, id) => spool.append({ id, subject: 'org_1' }, 5n)

// A directory with the spool as a crash leaves it: nobody has it open.
async function copied(dir) {
  const to = await newDirectory()
  await cp(dir, to, { recursive: true })
  return to
}

test('what was not acknowledged is sent again under the same numbers', async () => {
  const dir = await newDirectory()
  const spool = await open(dir)
  await Promise.all(['a', 'b', 'c'].map((id) => append(spool, id)))
  const first = await spool.next()
  assert.deepEqual(first.lines.map(({ event }) => [event.id, event.sequence]), [
    ['a', '00000000000000000001'],
    ['b', '00000000000000000002'],
    ['c', '00000000000000000003'],
  ])
  const crashed = await copied(dir)
  await spool.acknowledge(first)
  const acknowledged = await copied(dir)
  assert.equal(await spool.next(), null)

  assert.deepEqual((await (await open(crashed)).next()).lines, first.lines)
  const after = await open(acknowledged)
  assert.equal(await after.next(), null)
  await append(after, 'd')
  const [{ event }] = (await after.next()).lines
  assert.equal(event.sequence, '00000000000000000001')
  assert.notEqual(event.source, first.lines[0].event.source)
})

test('a torn end is cut off, and damage is an error', async () => {
  const cases = [
    [(text) => `${text}{"hold_nano":"5","ev`, 2],
    [(text) => `${text}${'\0'.repeat(100)}`, 2],
    [(text) => `x${text.slice(1)}`, null],
  ]
  for (const [spoil, events] of cases) {
    const dir = await newDirectory()
    const spool = await open(dir)
    await append(spool, 'a')
    await append(spool, 'b')
    const crashed = await copied(dir)
    const [name] = (await readdir(crashed)).filter((each) => each.endsWith('.events'))
    await writeFile(join(crashed, name), spoil(await readFile(join(crashed, name), 'utf8')))
    if (events === null) {
      await assert.rejects(open(crashed), /line 1 is damaged/)
      continue
    }
    const again = await open(crashed)
    const held = []
    for await (const line of again.leftovers()) held.push(line)
    assert.equal(held.length, events)
    assert.equal((await again.next()).lines.length, events)
  }
})

test('a full spool and another process are refused', async () => {
  const dir = await newDirectory()
  const spool = await open(dir, 300)
  await assert.rejects(open(dir, 300), /another process/)
  let stored = 0
  while (!spool.isFull()) {
    await append(spool, 'a')
    stored += 1
  }
  assert.ok(stored > 0)
  await assert.rejects(append(spool, 'b'), /full/)
  await spool.acknowledge(await spool.next())
  await append(spool, 'c')
})
