// Carries the spool to Kafka: in order, and one batch after the other.
import { setTimeout as sleep } from 'node:timers/promises'

import { Producer, compatibilityPartitioner } from '@platformatic/kafka'

import { REQUESTS } from './records.mjs'

const LINGER_MS = 3
const LOOK_MS = 1000
const AGAIN_MS = 1000

// Where an org belongs: what Kafka's Java client chooses. This client's own default keeps the sign bit, so it chooses another
// partition wherever their number is no power of two.
export function partitionOf(org, partitions) {
  return compatibilityPartitioner(null, Buffer.from(org)) % partitions
}

// Makes one record of the events of each partition, an array in the order in which they happened.
export function pack(lines, partitions) {
  const records = new Map()
  for (const { hold_nano: nano, event } of lines) {
    const partition = partitionOf(event.subject, partitions)
    if (!records.has(partition)) records.set(partition, { partition, key: event.subject, events: [], holds: [] })
    const record = records.get(partition)
    record.events.push(event)
    record.holds.push({ org: event.subject, nano: BigInt(nano) })
  }
  return [...records.values()]
}

export class Sender {
  problem = ''
  #stopped = false

  constructor(bootstrapBrokers, spool, admission) {
    Object.assign(this, { bootstrapBrokers, spool, admission })
  }

  stop() {
    this.#stopped = true
  }

  // Sends until it is stopped. After a failure a new producer goes on with the first event that is not acknowledged: what
  // Kafka had got already is sent twice, and charged once, by its number.
  async run() {
    while (!this.#stopped) {
      const producer = new Producer({ clientId: 'gateway', bootstrapBrokers: this.bootstrapBrokers, idempotent: true, retries: 3, requestTimeout: 10_000 })
      try {
        await this.#send(producer)
      } catch (error) {
        this.problem = error.message
        console.error(`events wait in the spool: ${error.message}`)
      }
      await producer.close().catch(() => {})
      await sleep(AGAIN_MS)
    }
  }

  async #send(producer) {
    const { topics } = await producer.metadata({ topics: [REQUESTS], forceUpdate: true })
    const partitions = topics.get(REQUESTS).partitionsCount
    while (!this.#stopped) {
      const batch = await this.spool.next()
      if (batch) {
        await this.spool.checkPartitions(batch, partitions)
        await this.#sendBatch(producer, batch, partitions)
      } else {
        this.problem = ''
        await this.spool.more(LOOK_MS)
      }
      await sleep(LINGER_MS)
    }
  }

  async #sendBatch(producer, batch, partitions) {
    const records = pack(batch.lines, partitions)
    const messages = records.map(({ partition, key, events }) => ({
      topic: REQUESTS,
      partition,
      key: Buffer.from(key),
      value: Buffer.from(JSON.stringify(events)),
    }))
    const { offsets } = await producer.send({ messages })
    for (const { partition, holds } of records) {
      const { offset } = offsets.find((each) => each.partition === partition)
      for (const hold of holds) this.admission.sent(partition, offset, hold)
    }
    await this.spool.acknowledge(batch)
  }
}
