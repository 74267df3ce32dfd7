// Answers that are errors: {"error": ...}, with the codes of docs/errors.md.
import { LosslessNumber, stringify } from 'lossless-json'

const KINDS = {
  invalid_request: [400, 'invalid_request_error'],
  invalid_api_key: [401, 'authentication_error'],
  insufficient_credits: [402, 'billing_error'],
  not_found: [404, 'not_found_error'],
  body_too_large: [413, 'invalid_request_error'],
  budget_exceeded: [429, 'rate_limit_error'],
  daily_limit_reached: [429, 'rate_limit_error'],
  key_refused: [429, 'rate_limit_error'],
  rate_limit_exceeded: [429, 'rate_limit_error'],
  unavailable: [503, 'unavailable_error'],
  provider_error: [502, 'api_error'],
  provider_timeout: [504, 'api_error'],
}
// OpenAI's clients would try again after some seconds, which does not help here.
const NO_RETRY = new Set(['insufficient_credits', 'budget_exceeded', 'daily_limit_reached', 'key_refused'])
const IST_MS = 330 * 60_000
const ONE_INR = 1_000_000_000n

// retryAfter is in whole seconds, 0 where waiting does not help.
export function refuse(code, message, { retryAfter = 0, status = KINDS[code][0], ...more } = {}) {
  return { status, retryAfter, code, error: { message, type: KINDS[code][1], code, ...more } }
}

export function refuseUnavailable(message = 'credits cannot be checked right now; try again') {
  return refuse('unavailable', message, { retryAfter: 1 })
}

// Words the window of a verdict. It is worth asking again at its end, or when the IST month turns.
export function refuseWindow(window, nowMs) {
  const here = new Date(nowMs + IST_MS)
  const monthMs = Date.UTC(here.getUTCFullYear(), here.getUTCMonth() + 1, 1) - IST_MS
  const againMs = Math.min(window.untilMs, monthMs)
  const more = { retryAfter: wholeSeconds(againMs - nowMs) }
  const resets = againMs === window.untilMs ? { resets_at: istText(againMs) } : {}
  switch (window.code) {
    case 'budget_exceeded':
      return refuse(window.code, "the key's monthly budget is spent", {
        ...more,
        limit_inr: inr(window.limit),
        spent_inr: inr(window.used),
        resets_at: istText(againMs),
      })
    case 'daily_limit_reached':
      return refuse(window.code, `the key's ${window.limit} requests of this IST day are used up`, { ...more, ...resets })
    default: // a newer worker knows more reasons
      return refuse('key_refused', 'the key is refused', { ...more, ...resets })
  }
}

export function wholeSeconds(waitMs) {
  return Math.max(1, Math.ceil(waitMs / 1000))
}

function istText(ms) {
  return new Date(ms + IST_MS).toISOString().replace('Z', '+05:30')
}

// Returns nano-rupees, a BigInt, as a JSON number of rupees, exactly.
function inr(nano) {
  const size = nano < 0n ? -nano : nano
  const text = `${nano < 0n ? '-' : ''}${size / ONE_INR}.${String(size % ONE_INR).padStart(9, '0')}`
  return new LosslessNumber(text.replace(/\.?0+$/, ''))
}

export function envelope(refusal) {
  return stringify({ error: refusal.error })
}

export function answer(response, refusal) {
  const headers = { 'content-type': 'application/json' }
  if (refusal.retryAfter) headers['retry-after'] = String(refusal.retryAfter)
  if (NO_RETRY.has(refusal.code)) headers['x-should-retry'] = 'false'
  response.writeHead(refusal.status, headers)
  response.end(envelope(refusal))
}
