// The corpus of this repository: what every gateway has to agree with.
import assert from 'node:assert/strict'
import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import Ajv2020 from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'

import { Admission } from './admission.mjs'
import { NewerFormat, take } from './records.mjs'
import { envelope, refuseWindow } from './refusal.mjs'
import { partitionOf } from './send.mjs'
import { Spool } from './spool.mjs'
import { usageOf } from './usage.mjs'

const SCHEMAS = new URL('../../schemas/', import.meta.url)
const CORPUS = new URL('corpus/', SCHEMAS)
const load = async (name, from = CORPUS) => JSON.parse(await readFile(new URL(name, from), 'utf8'))

async function batchSchema(validateFormats) {
  const ajv = new Ajv2020({ validateFormats, strict: false })
  addFormats(ajv)
  ajv.addSchema(await load('request-event.schema.json', SCHEMAS))
  return ajv.compile(await load('request-event-batch.schema.json', SCHEMAS))
}

test('an org is on its partition', async () => {
  const { orgs } = await load('partitions.json')
  assert.notEqual(orgs.length, 0)
  for (const { org, partitions } of orgs) {
    for (const [number, expected] of Object.entries(partitions)) assert.equal(partitionOf(org, Number(number)), expected, `${org} of ${number}`)
  }
})

test('the schema makes of each event what the index says', async () => {
  const plain = await batchSchema(false)
  const withFormats = await batchSchema(true)
  const { files } = await load('index.json')
  for (const { file, schema } of files) {
    if (schema === 'not JSON') continue // what a parser takes for JSON differs
    const document = await load(file)
    assert.equal(plain(document), schema !== 'refuses', file)
    if (file === 'invalid/time-with-space.json') continue // ajv-formats takes a space for the T
    assert.equal(withFormats(document), schema === 'accepts', `${file}, with formats`)
  }
})

test("each provider's usage becomes what the corpus says, and an event that passes the schema", async () => {
  const isValid = await batchSchema(true)
  const spool = await Spool.open(await mkdtemp(join(tmpdir(), 'spool-')), 'test', 1 << 20)
  const { examples } = await load('usage-corpus.json', SCHEMAS)
  for (const { dialect, why, raw, expected } of examples) {
    const usage = usageOf(raw, dialect)
    assert.deepEqual(usage, expected, `${dialect}: ${why}`)
    const data = { key_id: 'k', tier: 'standard', byok: false, model: 'm', provider: 'p', status: 200, latency_ms: 1, usage }
    const time = new Date().toISOString()
    await spool.append({ specversion: '1.0', type: 'bharatrouter.request.completed.v1', id: why, subject: 'org_1', time, data }, 5n)
  }
  const { lines } = await spool.next()
  assert.equal(lines.length, examples.length)
  assert.ok(isValid(lines.map(({ event }) => event)), JSON.stringify(isValid.errors))
})

test('counts that are none are errors', () => {
  for (const tokens of [-1, 1.5, '5', true, 1e30, 1e9]) assert.throws(() => usageOf({ prompt_tokens: tokens }, 'openai'), String(tokens))
  for (const usage of [null, undefined, [], 'usage', 5]) assert.throws(() => usageOf(usage, 'openai'))
})

test('a gateway answers as the corpus says', async () => {
  const { read_at: readAt, files } = await load('followed.json')
  for (const entry of files) {
    let nowMs = Date.parse(readAt)
    const admission = new Admission(() => nowMs, true)
    const taken = async ({ file, topic, key }) => take(admission, topic, Buffer.from(key), await readFile(new URL(file, CORPUS)))
    for (const earlier of files.filter(({ file }) => file === entry.after)) await taken(earlier)
    const error = await taken(entry).then(() => null, (thrown) => thrown)
    assert.equal(error === null, entry.accepts, `${entry.file}: ${error}`)
    assert.equal(error instanceof NewerFormat, entry.stops ?? false, entry.file)
    admission.caughtUp(nowMs)
    for (const asked of entry.asks ?? []) {
      nowMs = Date.parse(asked.at ?? readAt)
      const { refusal } = admission.admit(asked.org, asked.key_id, asked.tier, asked.byok, 0n)
      assert.equal(refusal?.code ?? null, asked.answer, `${entry.file}: ${JSON.stringify(asked)}`)
    }
  }
})

test('a balance beyond what a JavaScript number holds is told exactly', () => {
  const admission = new Admission(() => 0, true)
  admission.caughtUp(0)
  take(admission, 'metering.verdicts', Buffer.from('org_1'), Buffer.from('{"org": "org_1", "balance_nano": 9007199254740993000001, "refused": []}'))
  const most = 9007199254740993000001n - 9007199254740993000001n / 16n
  assert.equal(admission.admit('org_1', 'k', 'standard', false, most + 1n).refusal.code, 'insufficient_credits')
  assert.equal(admission.admit('org_1', 'k', 'standard', false, most).hold.nano, most)
})

test("the refusal is that of the protocol's page", () => {
  const window = { keyId: 'key_1', code: 'budget_exceeded', fromMs: 1780252200000, untilMs: 1782844200000, limit: 20_000_000_000n, used: 22_500_000_000n }
  const refusal = refuseWindow(window, Date.parse('2026-06-12T18:30:00Z'))
  assert.deepEqual(JSON.parse(envelope(refusal)), {
    error: {
      ...{ message: "the key's monthly budget is spent", type: 'rate_limit_error', code: 'budget_exceeded' },
      ...{ limit_inr: 20, spent_inr: 22.5, resets_at: '2026-07-01T00:00:00.000+05:30' },
    },
  })
  assert.equal(refusal.retryAfter, 18 * 24 * 3600)
})
