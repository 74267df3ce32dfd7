// Answers POST /v1/chat/completions: admitted from memory, served by a provider, and charged by its event.
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'

import { ask, guess, mostNano, readAsked } from './provider.mjs'
import { answer, envelope, refuse, refuseUnavailable } from './refusal.mjs'
import { usageOf } from './usage.mjs'

const TYPE = 'bharatrouter.request.completed.v1'
const BODY_BYTES_MAX = 8 * 1024 * 1024
const MESSAGE_CHARACTERS = 4096
const OWN_KEY = 'x-provider-key' // the org's own key at the provider: such a request costs nothing here

export class Gateway {
  constructor(admission, spool, routes) {
    Object.assign(this, { admission, spool, routes })
  }

  async chat(request, response) {
    const startedMs = performance.now()
    const { key, refusal } = this.admission.authenticate(bearer(request))
    if (refusal) return answer(response, refusal)
    const asked = await readBody(request)
    if (asked.refusal) return answer(response, asked.refusal)
    const routes = this.routes.get(asked.model)
    if (!routes) return answer(response, refuse('not_found', `there is no model ${JSON.stringify(asked.model)} here`))
    if (this.spool.isFull()) return answer(response, refuseUnavailable())
    const providerKey = request.headers[OWN_KEY]
    const byok = providerKey !== undefined
    const admitted = this.admission.admit(key.org, key.keyId, key.tier, byok, mostNano(asked, routes))
    if (admitted.refusal) return answer(response, admitted.refusal)
    return this.#serve(response, { key, asked, byok, startedMs, hold: admitted.hold, ttftMs: undefined }, routes, providerKey)
  }

  // Asks one provider after the other until one answers. A client that leaves does not stop it: most providers go on and
  // charge for all of it, so the answer is read to its end, and the client charged.
  async #serve(response, serving, routes, providerKey) {
    let failure
    for (const route of routes) {
      serving.route = route
      try {
        const told = await ask(route, serving.asked, providerKey)
        if (told.ok) {
          return await (serving.asked.stream ? this.#stream(response, serving, told) : this.#whole(response, serving, told))
        }
        const message = (await told.text()).slice(0, MESSAGE_CHARACTERS)
        failure = refuse('provider_error', `${route.provider} answered ${told.status}: ${message}`, { status: told.status })
        if (told.status < 500 && told.status !== 429) break // it is the request, and no other provider would like it better
      } catch (error) {
        failure = failureOf(error)
      }
    }
    answer(response, await this.#fail(serving, failure))
  }

  async #whole(response, serving, told) {
    let body, raw
    try {
      body = Buffer.from(await told.arrayBuffer())
      raw = JSON.parse(body).usage
    } catch (error) {
      return answer(response, await this.#fail(serving, failureOf(error)))
    }
    first(serving)
    const refusal = await this.#end(serving, 200, closed(response), usageFrom(raw, serving, body.length))
    if (refusal) return answer(response, refusal)
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(body)
  }

  // Hands an answer on as it comes, all but its end: that goes out when the event is stored.
  async #stream(response, serving, told) {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    const read = { usage: undefined, textBytes: 0, ending: false, done: false, failure: null }
    let held = ''
    try {
      for await (const line of linesOf(told.body)) {
        if (takeLine(read, line, serving.asked.wantsUsage)) {
          first(serving)
          if (read.ending) held += line
          else await write(response, line)
        }
        if (read.done || read.failure) break
      }
    } catch (error) {
      read.failure = failureOf(error)
    }
    if (!read.done) read.failure ??= refuse('provider_error', 'the provider broke off')
    const refusal = read.failure
      ? await this.#fail(serving, read.failure, toldUsage(read.usage, serving))
      : await this.#end(serving, 200, closed(response), usageFrom(read.usage, serving, read.textBytes))
    response.end(refusal ? `data: ${envelope(refusal)}\n\n` : `${held}\n`)
  }

  // Ends a request that no provider served, and returns what to answer.
  async #fail(serving, failure, usage) {
    return (await this.#end(serving, failure.status, failure.code, usage)) ?? failure
  }

  // Stores the event of a request. Returns a refusal where that cannot be: what is not stored is not handed out.
  async #end(serving, status, errorCode, usage) {
    const { key, asked, byok, route, startedMs, ttftMs } = serving
    if (status >= 400) this.#release(serving) // it costs nothing
    const event = {
      specversion: '1.0',
      type: TYPE,
      id: randomUUID(),
      subject: key.org,
      time: new Date().toISOString(),
      data: {
        ...{ key_id: key.keyId, tier: key.tier, byok, model: route.model, provider: route.provider },
        ...{ status, error_code: errorCode, latency_ms: Math.round(performance.now() - startedMs), ttft_ms: ttftMs },
        ...{ stream: asked.stream, usage },
      },
    }
    try {
      await this.spool.append(event, serving.hold.nano)
      return null
    } catch (error) {
      console.error(`an event could not be stored: ${error.message}`)
      this.#release(serving)
      return refuseUnavailable('the request could not be recorded; try again')
    }
  }

  #release(serving) {
    this.admission.release(serving.hold)
    serving.hold = { ...serving.hold, nano: 0n }
  }
}

async function readBody(request) {
  const parts = []
  let bytes = 0
  try {
    for await (const part of request) {
      bytes += part.length
      if (bytes <= BODY_BYTES_MAX) parts.push(part)
    }
    if (bytes > BODY_BYTES_MAX) return { refusal: refuse('body_too_large', `the body is above ${BODY_BYTES_MAX} bytes`) }
    return readAsked(Buffer.concat(parts))
  } catch (error) {
    return { refusal: refuse('invalid_request', error.message) }
  }
}

// Reads a line of a stream into `read`, and says whether it is handed on: a chunk that has the usage alone goes to who asked
// for it.
function takeLine(read, line, wantsUsage) {
  if (!line.startsWith('data:')) return true
  const data = line.slice('data:'.length).trim()
  if (data === '[DONE]') {
    read.ending = read.done = true
    return true
  }
  const chunk = JSON.parse(data)
  if (chunk.error) {
    read.failure = refuse('provider_error', JSON.stringify(chunk.error))
    return false
  }
  if (chunk.usage !== undefined && chunk.usage !== null) read.usage = chunk.usage // where each chunk has one they are cumulative
  const choices = chunk.choices ?? []
  for (const choice of choices) {
    if (choice.finish_reason) read.ending = true
    read.textBytes += Buffer.byteLength(choice.delta?.content ?? '')
  }
  return choices.length > 0 || wantsUsage
}

// Yields the lines of a body, each with its end; what follows the last line's end is none.
async function* linesOf(body) {
  let rest = ''
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split('\n')
    rest = lines.pop()
    for (const line of lines) yield `${line}\n`
  }
}

// Returns once the client has taken it, or is gone.
async function write(response, text) {
  if (!response.destroyed && !response.write(text)) {
    await Promise.race([once(response, 'drain'), once(response, 'close')])
  }
}

function usageFrom(raw, serving, answerBytes) {
  return toldUsage(raw, serving) ?? guess(serving.asked, answerBytes)
}

function toldUsage(raw, serving) {
  try {
    return usageOf(raw, serving.route.dialect)
  } catch (error) {
    console.error(`${serving.route.provider}: ${error.message}`)
    return undefined
  }
}

function first(serving) {
  serving.ttftMs ??= Math.round(performance.now() - serving.startedMs)
}

// What went wrong with a provider: the gateway's own limit, or the provider.
function failureOf(error) {
  if (error.name === 'TimeoutError') return refuse('provider_timeout', 'the provider did not answer in time')
  return refuse('provider_error', `the provider broke off: ${error.message}`)
}

// The error code of a request whose client went away before its end: it is charged all the same.
function closed(response) {
  return response.destroyed ? 'client_closed' : undefined
}

function bearer(request) {
  const [, secret] = /^bearer\s+(.*)$/i.exec(request.headers.authorization ?? '') ?? []
  return secret?.trim() ?? ''
}
