// All that the gateway knows, and what it says to a request. It asks nobody and waits for nothing. Amounts are nano-rupees,
// BigInt.
import { createHash } from 'node:crypto'

import { refuse, refuseUnavailable, refuseWindow, wholeSeconds } from './refusal.mjs'

const TRIAL_PER_MINUTE = 60
const STALE_AFTER_MS = 10_000
const MINUTE_MS = 60_000
const EXACT_BELOW_NANO = 1000n * 1_000_000_000n // above 1,000 rupees a balance may be a sixteenth lower than was told
const SLACK_SHARE = 16n

export class Admission {
  #orgs = new Map()
  #keys = new Map() // by the key's id
  #byHash = new Map() // by the SHA-256 of its secret
  #admitted = new Map() // the times of a key's requests
  #sent = new Map() // by partition: events that Kafka has and the verdicts do not count yet
  #readMs = null

  // openWhenStale goes on by the last verdicts where they are stale; else everybody gets 503.
  constructor(nowMs, openWhenStale) {
    this.nowMs = nowMs
    this.openWhenStale = openWhenStale
  }

  // --- asking: a refusal, or null ---

  // Returns {key} with this secret, or {refusal}. One that was revoked or has expired is returned: admit refuses it.
  authenticate(secret) {
    if (this.#isShut()) return { refusal: refuseUnavailable() }
    const key = this.#byHash.get(createHash('sha256').update(secret).digest('hex'))
    if (key) return { key }
    return { refusal: refuse('invalid_api_key', 'an API key is needed: Authorization: Bearer br-..., active and not revoked') }
  }

  // In the order of docs/gateway-protocol.md. Returns {hold}, which is reserved now, or {refusal}.
  admit(orgId, keyId, tier, byok, costNano) {
    const nowMs = this.nowMs()
    const key = this.#keys.get(keyId)
    const org = this.#org(orgId)
    const paid = tier !== 'trial' && !byok
    if (this.#isShut()) return { refusal: refuseUnavailable() }
    if (key?.revoked) return { refusal: refuse('invalid_api_key', 'this API key was revoked') }
    if (key && key.expiresMs !== null && key.expiresMs <= nowMs) {
      return { refusal: refuse('invalid_api_key', 'this API key has expired') }
    }
    const spendable = org.known ? floorNano(org.balanceNano) - org.heldNano : 0n
    if (paid && (spendable <= 0n || spendable < costNano)) {
      return { refusal: refuse('insufficient_credits', 'the balance is used up, or does not cover what this request may cost') }
    }
    const window = org.windows.find((each) => each.keyId === keyId && each.fromMs <= nowMs && nowMs < each.untilMs)
    if (window) return { refusal: refuseWindow(window, nowMs) }
    const refusal = this.#admitMinute(keyId, perMinute(key, tier), nowMs)
    if (refusal) return { refusal }
    const hold = { org: orgId, nano: paid ? costNano : 0n }
    this.hold(hold)
    return { hold }
  }

  #admitMinute(keyId, limit, nowMs) {
    if (!limit) return null
    const times = (this.#admitted.get(keyId) ?? []).filter((atMs) => nowMs - atMs < MINUTE_MS)
    this.#admitted.set(keyId, times)
    if (times.length >= limit) {
      const retryAfter = wholeSeconds(times[times.length - limit] + MINUTE_MS - nowMs)
      return refuse('rate_limit_exceeded', `the key may make ${limit} requests a minute`, { retryAfter })
    }
    times.push(nowMs)
    return null
  }

  // --- reservations ---

  hold(hold) {
    this.#org(hold.org).heldNano += hold.nano
  }

  // The request failed, or its event was not stored.
  release(hold) {
    this.#org(hold.org).heldNano -= hold.nano
  }

  // Kafka has an event: its reservation ends when the verdicts count its offset.
  sent(partition, offset, hold) {
    const sent = this.#sentOf(partition)
    if (offset < sent.countedBelow) this.release(hold)
    else sent.waiting.push({ offset, hold, atMs: this.nowMs() })
  }

  // --- being told ---

  takeVerdict({ org, balanceNano, windows }) {
    Object.assign(this.#org(org), { known: true, balanceNano, windows })
  }

  forgetVerdict(org) {
    Object.assign(this.#org(org), { known: false, windows: [] })
  }

  // Where progress fell the topic began anew, and nothing that was sent before will ever be counted.
  takeProgress(partition, below) {
    const sent = this.#sentOf(partition)
    const anew = below < sent.countedBelow
    sent.countedBelow = below
    const counted = sent.waiting.findIndex((each) => !anew && each.offset >= below)
    const done = sent.waiting.splice(0, counted < 0 ? sent.waiting.length : counted)
    for (const { hold } of done) this.release(hold)
  }

  // Of two records of a key the one with the higher version counts.
  takeKey(key) {
    const earlier = this.#keys.get(key.keyId)
    if (earlier && earlier.version > key.version) return
    if (earlier) this.#byHash.delete(earlier.hash)
    this.#keys.set(key.keyId, key)
    this.#byHash.set(key.hash, key)
  }

  forgetKey(keyId) {
    this.#byHash.delete(this.#keys.get(keyId)?.hash)
    this.#keys.delete(keyId)
  }

  // All that the broker had at an instant is known.
  caughtUp(atMs) {
    this.#readMs = atMs
  }

  // --- how it stands ---

  standing() {
    return { ready: this.#readMs !== null, stale: this.#isStale() }
  }

  // Before the first reading nobody is known, so nobody is served; after it the operator decides.
  #isShut() {
    return this.#readMs === null || (!this.openWhenStale && this.#isStale())
  }

  // The broker was not heard for too long, or the worker has not counted an event of ours for too long.
  #isStale() {
    const beforeMs = this.nowMs() - STALE_AFTER_MS
    const uncounted = [...this.#sent.values()].some(({ waiting }) => waiting.length && waiting[0].atMs < beforeMs)
    return this.#readMs === null || this.#readMs < beforeMs || uncounted
  }

  #org(id) {
    if (!this.#orgs.has(id)) this.#orgs.set(id, { known: false, balanceNano: 0n, heldNano: 0n, windows: [] })
    return this.#orgs.get(id)
  }

  #sentOf(partition) {
    if (!this.#sent.has(partition)) this.#sent.set(partition, { countedBelow: -1n, waiting: [] })
    return this.#sent.get(partition)
  }
}

function floorNano(balanceNano) {
  return balanceNano > EXACT_BELOW_NANO ? balanceNano - balanceNano / SLACK_SHARE : balanceNano
}

// How many requests a key may make in any 60 seconds, 0 for any number.
function perMinute(key, tier) {
  const limit = key?.rpmLimit ?? 0
  return tier === 'trial' ? Math.min(limit || TRIAL_PER_MINUTE, TRIAL_PER_MINUTE) : limit
}
