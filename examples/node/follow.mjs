// Reads the keys and the verdicts from the beginning and then as they come.
import { setTimeout as sleep } from 'node:timers/promises'

import { Admin, FetchIsolationLevels, ListOffsetTimestamps, fetchV13 } from '@platformatic/kafka'

import { KEYS, NewerFormat, VERDICTS, take } from './records.mjs'

const TOPICS = [VERDICTS, KEYS]
const WAIT_MS = 500 // a broker with nothing new answers after so long: that is how fresh our knowledge is
const BYTES = 4 * 1024 * 1024
const AGAIN_MS = 500
const IS_CONTROL = 1 << 5
const IS_TRANSACTIONAL = 1 << 4
const ABORT = 0

// The client's own consumers are members of a group, which a gateway has no use for: it reads every partition, and keeps no
// offsets. So the fetches are asked for here.
export class Follower {
  unread = 0 // records that could not be read
  problem = ''
  #next = new Map() // the next offset of each partition
  #ends = new Map() // where each partition ended when its broker answered last
  #stopped = false

  constructor(bootstrapBrokers, admission) {
    this.bootstrapBrokers = bootstrapBrokers
    this.admission = admission
  }

  stop() {
    this.#stopped = true
  }

  // Reads until it is stopped, or until a record of a newer format, after which nothing may be believed.
  async run() {
    while (!this.#stopped) {
      const admin = new Admin({ clientId: 'gateway', bootstrapBrokers: this.bootstrapBrokers, retries: 1, requestTimeout: 10_000 })
      try {
        await this.#follow(admin)
      } catch (error) {
        if (error.findBy?.('apiId', 'OFFSET_OUT_OF_RANGE')) this.#next.clear()
        this.problem = error.message
        console.error(`reading ${TOPICS}: ${error.message}`)
        if (error instanceof NewerFormat) return
      }
      await admin.close().catch(() => {})
      await sleep(AGAIN_MS)
    }
  }

  async #follow(admin) {
    const { topics } = await admin.metadata({ topics: TOPICS })
    if (this.#next.size === 0) await this.#seekToBeginning(admin, topics)
    const leaders = new Map()
    for (const [topic, { id, partitions }] of topics) {
      for (const [partition, { leader }] of partitions.entries()) {
        leaders.set(leader, [...(leaders.get(leader) ?? []), { topic, topicId: id, partition }])
      }
    }
    this.#ends.clear()
    const connections = await admin.connectToBrokers([...leaders.keys()])
    await Promise.all([...leaders].map(([leader, places]) => this.#followLeader(connections.get(leader), places)))
  }

  async #seekToBeginning(admin, topics) {
    const asked = [...topics].map(([name, { partitionsCount }]) => ({
      name,
      partitions: Array.from({ length: partitionsCount }, (_, partitionIndex) => ({ partitionIndex, timestamp: ListOffsetTimestamps.EARLIEST })),
    }))
    for (const { name, partitions } of await admin.listOffsets({ topics: asked })) {
      for (const { partitionIndex, offset } of partitions) this.#next.set(`${name}/${partitionIndex}`, offset)
    }
  }

  async #followLeader(connection, places) {
    while (!this.#stopped) {
      const askedMs = Date.now()
      const topics = places.map(({ topic, topicId, partition }) => ({
        topicId,
        partitions: [{ partition, currentLeaderEpoch: -1, fetchOffset: this.#next.get(`${topic}/${partition}`), lastFetchedEpoch: -1, partitionMaxBytes: BYTES }],
      }))
      const answer = await fetchV13.api.async(connection, WAIT_MS, 1, 2 * BYTES, FetchIsolationLevels.READ_COMMITTED, 0, -1, topics, [], '')
      for (const { topicId, partitions } of answer.responses) {
        for (const told of partitions) {
          const { topic, partition } = places.find((place) => place.topicId === topicId && place.partition === told.partitionIndex)
          this.#take(topic, partition, told)
          this.#ends.set(`${topic}/${partition}`, { offset: told.lastStableOffset, askedMs })
        }
      }
      this.#confirm()
    }
  }

  #take(topic, partition, told) {
    const place = `${topic}/${partition}`
    for (const { records, firstOffset, nextOffset } of committed(told)) {
      for (const record of records) {
        const offset = firstOffset + BigInt(record.offsetDelta)
        if (offset >= this.#next.get(place)) this.#takeRecord(topic, record, `${place}, offset ${offset}`)
      }
      this.#next.set(place, nextOffset)
    }
  }

  #takeRecord(topic, { key, value }, where) {
    try {
      take(this.admission, topic, key, value)
    } catch (error) {
      if (error instanceof NewerFormat) throw new NewerFormat(`${where}: a record of a newer release (${error.message}). Upgrade this gateway`)
      this.unread += 1
      console.error(`${where} cannot be read and is skipped: ${error.message}`)
    }
  }

  // Notes the time as of which all is known: when the oldest of the answers was asked for, once all were read to their ends.
  #confirm() {
    let oldestMs = Infinity
    for (const [place, next] of this.#next) {
      const end = this.#ends.get(place)
      if (!end || next < end.offset) return
      oldestMs = Math.min(oldestMs, end.askedMs)
    }
    this.problem = ''
    this.admission.caughtUp(oldestMs)
  }
}

// Yields the batches of a partition's answer, without the records of markers and of what was aborted. The marker that ends an
// aborted transaction comes after its records; a transaction that goes on is not in the answer.
export function* committed({ records, abortedTransactions }) {
  const aborted = [...abortedTransactions].sort((a, b) => (a.firstOffset < b.firstOffset ? -1 : 1))
  const aborting = new Set()
  for (const batch of records ?? []) {
    const { firstOffset, attributes, producerId } = batch
    const nextOffset = firstOffset + BigInt(batch.lastOffsetDelta) + 1n
    while (aborted.length && aborted[0].firstOffset < nextOffset) aborting.add(aborted.shift().producerId)
    const isMarker = (attributes & IS_CONTROL) !== 0
    if (isMarker && batch.records[0]?.key.readInt16BE(2) === ABORT) aborting.delete(producerId)
    const isAborted = (attributes & IS_TRANSACTIONAL) !== 0 && aborting.has(producerId)
    yield { firstOffset, nextOffset, records: isMarker || isAborted ? [] : batch.records }
  }
}
