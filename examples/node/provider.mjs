// What a client asks for, and the OpenAI-compatible providers that may serve it.
import { readFile } from 'node:fs/promises'

import { LosslessNumber, isLosslessNumber, parse, stringify } from 'lossless-json'

import { isDialect, makeUsage } from './usage.mjs'

const ANSWER_TOKENS = 4096 // the most of an answer where the request sets no limit, so that there is something to reserve
const TOKENS_MAX = 100_000_000
const BYTES_OF_A_TOKEN = 4 // a guess, for a provider that tells no usage. Put your tokenizer there
const LIMIT_MS = 10 * 60_000

// Returns the routes of each model, in the order in which they are tried. Rates are the most that a route costs by the
// catalog, in nano-rupees.
export async function readRoutes(path) {
  const routes = new Map()
  for (const given of JSON.parse(await readFile(path, 'utf8'))) {
    const { model, provider, url, dialect, api_key_variable: variable } = given
    if (!model || !provider || !url || !isDialect(dialect)) {
      throw new Error(`${path}: a route has a model, a provider, a url and a dialect, unlike ${JSON.stringify(given)}`)
    }
    const route = {
      ...{ model, provider, url, dialect, variable },
      inputNano: BigInt(given.input_nano_per_token ?? 0),
      outputNano: BigInt(given.output_nano_per_token ?? 0),
      requestNano: BigInt(given.request_nano ?? 0),
    }
    routes.set(model, [...(routes.get(model) ?? []), route])
  }
  return routes
}

// Reads a client's body, and sets what the provider is asked for beyond it: a limit, and the usage of a stream. Numbers stay
// as they are written. Throws for what is no request.
export function readAsked(data) {
  const body = parse(new TextDecoder('utf-8', { fatal: true }).decode(data))
  if (body === null || typeof body !== 'object' || Array.isArray(body)) throw new TypeError('the body is a JSON object')
  if (body.model !== undefined && typeof body.model !== 'string') throw new TypeError('model is a text')
  if (!['undefined', 'boolean'].includes(typeof (body.stream ?? undefined))) throw new TypeError('stream is true or false')
  const options = body.stream_options ?? {}
  if (typeof options !== 'object' || Array.isArray(options) || isLosslessNumber(options)) throw new TypeError('stream_options is an object')
  const tokens = countOf(body.max_completion_tokens) ?? countOf(body.max_tokens) ?? ANSWER_TOKENS
  const choices = countOf(body.n) ?? 1
  if (tokens * choices > TOKENS_MAX) throw new RangeError(`max_tokens and n are up to ${TOKENS_MAX} together`)
  if (body.max_completion_tokens == null && body.max_tokens == null) body.max_tokens = new LosslessNumber(String(tokens))
  const stream = body.stream === true
  const wantsUsage = options.include_usage === true
  if (stream) body.stream_options = { ...options, include_usage: true }
  return { body, stream, wantsUsage, model: body.model, bytes: data.length, answerTokens: tokens * choices }
}

function countOf(value) {
  if (value == null) return null
  const found = isLosslessNumber(value) ? Number(value.toString()) : NaN
  if (!Number.isInteger(found) || found < 1 || found > TOKENS_MAX) throw new RangeError(`max_tokens and n are from 1 to ${TOKENS_MAX}`)
  return found
}

// What a request can cost at most: a token of the prompt is a byte at least.
export function mostNano(asked, routes) {
  const each = routes.map(({ inputNano, outputNano, requestNano }) => BigInt(asked.bytes) * inputNano + BigInt(asked.answerTokens) * outputNano + requestNano)
  return each.reduce((most, nano) => (nano > most ? nano : most), 0n)
}

// Calls a provider. providerKey is the org's own, absent where there is none.
export function ask(route, asked, providerKey) {
  return fetch(`${route.url}/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${providerKey ?? process.env[route.variable] ?? ''}` },
    body: stringify(asked.body),
    signal: AbortSignal.timeout(LIMIT_MS),
  })
}

// A usage for an answer whose provider told none, or none that can be: nothing is served for nothing.
export function guess(asked, answerBytes) {
  return makeUsage(Math.ceil(asked.bytes / BYTES_OF_A_TOKEN), Math.ceil(answerBytes / BYTES_OF_A_TOKEN))
}
