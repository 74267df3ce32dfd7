// What the records of metering.keys and metering.verdicts mean.
import { isInteger, parse } from 'lossless-json'

export const REQUESTS = 'metering.requests'
export const VERDICTS = 'metering.verdicts'
export const KEYS = 'metering.keys'
const PROGRESS = '\u0000progress'

// A record of a newer release: nothing after it may be believed.
export class NewerFormat extends Error {}

// Hands a record to the admission. key and value are Buffers; a value of null deletes. Throws NewerFormat where nothing may
// be read after it, and another error where the record alone cannot be read.
export function take(admission, topic, key, value) {
  const name = key.toString()
  if (topic === KEYS) {
    if (value === null) admission.forgetKey(name)
    else admission.takeKey(keyOf(read(value)))
  } else if (value === null) {
    admission.forgetVerdict(name)
  } else if (name === PROGRESS) {
    const told = read(value)
    admission.takeProgress(number(told.partition), whole(told.requests_offset))
  } else {
    admission.takeVerdict(verdictOf(read(value)))
  }
}

// Whole numbers come as BigInt: a balance in nano-rupees may be beyond what a JavaScript number holds exactly.
function read(value) {
  const text = new TextDecoder('utf-8', { fatal: true }).decode(value)
  const told = parse(text, undefined, (number) => (isInteger(number) ? BigInt(number) : Number(number)))
  if (told === null || typeof told !== 'object' || Array.isArray(told)) throw new TypeError('a record is an object')
  if (told.format !== undefined && told.format !== null && told.format !== 1n) throw new NewerFormat(`format ${told.format}`)
  return told
}

function keyOf(told) {
  if (told.tier !== 'standard' && told.tier !== 'trial') throw new TypeError(`there is no tier ${told.tier}`)
  return {
    org: text(told.org),
    keyId: text(told.key_id),
    hash: text(told.hash),
    tier: told.tier,
    rpmLimit: told.rpm_limit == null ? null : number(told.rpm_limit),
    expiresMs: told.expires_ms == null ? null : number(told.expires_ms),
    revoked: told.revoked === true,
    version: told.version == null ? 1 : number(told.version),
  }
}

function verdictOf(told) {
  if (!Array.isArray(told.refused)) throw new TypeError('a verdict has windows')
  return { org: text(told.org), balanceNano: whole(told.balance_nano), windows: told.refused.map(windowOf) }
}

// A window is [key, code, from, until, limit, used], and perhaps more one day.
function windowOf([keyId, code, fromMs, untilMs, limit, used]) {
  return { keyId: text(keyId), code: text(code), fromMs: number(fromMs), untilMs: number(untilMs), limit: whole(limit), used: whole(used) }
}

function text(value) {
  if (typeof value !== 'string' || value === '') throw new TypeError(`a text is wanted, not ${value}`)
  return value
}

function whole(value) {
  if (typeof value !== 'bigint') throw new TypeError(`a whole number is wanted, not ${value}`)
  return value
}

function number(value) {
  return Number(whole(value))
}
