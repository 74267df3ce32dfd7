import assert from 'node:assert/strict'
import { test } from 'node:test'

import { committed } from './follow.mjs'

const TRANSACTIONAL = 1 << 4
const MARKER = TRANSACTIONAL | (1 << 5)
const data = (firstOffset, producerId, ...values) => ({
  ...{ firstOffset, producerId, attributes: TRANSACTIONAL, lastOffsetDelta: values.length - 1 },
  records: values.map((value, offsetDelta) => ({ value, offsetDelta })),
})
const marker = (firstOffset, producerId, commits) => ({
  ...{ firstOffset, producerId, attributes: MARKER, lastOffsetDelta: 0 },
  records: [{ key: Buffer.from([0, 0, 0, commits ? 1 : 0]), offsetDelta: 0 }],
})

test('what was aborted is not taken, though one producer aborts twice in one answer, and every offset is read past', () => {
  const told = {
    abortedTransactions: [
      { producerId: 7n, firstOffset: 6n },
      { producerId: 7n, firstOffset: 0n },
    ],
    records: [
      data(0n, 7n, 'aborted', 'aborted'),
      data(2n, 8n, 'of another producer'),
      marker(3n, 7n, false),
      data(4n, 7n, 'committed'),
      marker(5n, 7n, true),
      data(6n, 7n, 'aborted'),
      marker(7n, 8n, true),
      marker(8n, 7n, false),
      { firstOffset: 9n, producerId: -1n, attributes: 0, lastOffsetDelta: 4, records: [] }, // left by compaction
    ],
  }
  const found = [...committed(told)]
  assert.deepEqual(found.flatMap(({ records }) => records.map(({ value }) => value)), ['of another producer', 'committed'])
  assert.equal(found.at(-1).nextOffset, 14n)
})
