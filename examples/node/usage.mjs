// The usage of an event from a provider's own object. docs/gateway.md tells how each provider counts.

const TOKENS_MAX = 100_000_000

const DIALECTS = { openai, anthropic, gemini, bedrock, deepseek, xai, cohere }

export function isDialect(name) {
  return Object.hasOwn(DIALECTS, name)
}

// Throws where a count is none.
export function usageOf(raw, dialect) {
  if (!isObject(raw)) throw new TypeError('the provider told no usage')
  const usage = DIALECTS[dialect](raw)
  if (Math.max(usage.prompt_tokens, usage.completion_tokens) > TOKENS_MAX) throw new RangeError(`no request has more than ${TOKENS_MAX} tokens`)
  return usage
}

export function makeUsage(prompt, completion, { total = prompt + completion, cached = 0, written = 0, audio = 0, reasoning = 0, spoken = 0 } = {}) {
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: total,
    prompt_tokens_details: { cached_tokens: cached, cache_write_tokens: written, audio_tokens: audio },
    completion_tokens_details: { reasoning_tokens: reasoning, audio_tokens: spoken },
  }
}

// Chat Completions, and Responses and audio, which have other names. Cached audio stands in two counts.
function openai(raw) {
  const prompt = details(raw, 'prompt_tokens_details', 'input_tokens_details', 'input_token_details')
  const completion = details(raw, 'completion_tokens_details', 'output_tokens_details', 'output_token_details')
  const cachedAudio = count(details(prompt, 'cached_tokens_details'), 'audio_tokens')
  return makeUsage(count(raw, 'prompt_tokens', 'input_tokens'), count(raw, 'completion_tokens', 'output_tokens'), {
    total: raw.total_tokens == null ? undefined : count(raw, 'total_tokens'),
    cached: count(prompt, 'cached_tokens'),
    written: count(prompt, 'cache_write_tokens'),
    audio: Math.max(count(prompt, 'audio_tokens') - cachedAudio, 0),
    reasoning: count(completion, 'reasoning_tokens'),
    spoken: count(completion, 'audio_tokens'),
  })
}

// What was read from and written to the cache is beside input_tokens.
function anthropic(raw) {
  const cached = count(raw, 'cache_read_input_tokens')
  const lifetimes = details(raw, 'cache_creation')
  const written =
    count(raw, 'cache_creation_input_tokens') || Object.keys(lifetimes).reduce((sum, name) => sum + count(lifetimes, name), 0)
  return makeUsage(count(raw, 'input_tokens') + cached + written, count(raw, 'output_tokens'), { cached, written })
}

// Thoughts are output beside the candidates. The OpenAI-compatible endpoint tells of them in the total alone.
function gemini(raw) {
  const isNative = raw.promptTokenCount != null || raw.prompt_token_count != null
  if (!isNative && raw.prompt_tokens != null) {
    const usage = openai(raw)
    const beside = usage.total_tokens - usage.prompt_tokens - usage.completion_tokens
    return beside > 0 ? withReasoning(usage, beside) : usage
  }
  const prompt = count(raw, 'promptTokenCount', 'prompt_token_count') + count(raw, 'toolUsePromptTokenCount', 'tool_use_prompt_token_count')
  const answer = count(raw, 'candidatesTokenCount', 'candidates_token_count', 'responseTokenCount', 'response_token_count')
  const told = count(raw, 'thoughtsTokenCount', 'thoughts_token_count')
  const thoughts = Math.max(told, count(raw, 'totalTokenCount', 'total_token_count') - prompt - answer)
  const cachedAudio = audioOf(raw, 'cacheTokensDetails', 'cache_tokens_details')
  return makeUsage(prompt, answer + thoughts, {
    cached: count(raw, 'cachedContentTokenCount', 'cached_content_token_count'),
    audio: Math.max(audioOf(raw, 'promptTokensDetails', 'prompt_tokens_details') - cachedAudio, 0),
    reasoning: thoughts,
    spoken: audioOf(raw, 'candidatesTokensDetails', 'candidates_tokens_details', 'responseTokensDetails', 'response_tokens_details'),
  })
}

// What was read from and written to the cache is beside inputTokens, and not always in the total.
function bedrock(raw) {
  const cached = count(raw, 'cacheReadInputTokens')
  const written = count(raw, 'cacheWriteInputTokens')
  return makeUsage(count(raw, 'inputTokens') + cached + written, count(raw, 'outputTokens'), { cached, written })
}

// Cache hits stand at the top.
function deepseek(raw) {
  const usage = openai(raw)
  const of = usage.prompt_tokens_details
  of.cached_tokens = Math.max(of.cached_tokens, count(raw, 'prompt_cache_hit_tokens'))
  return usage
}

// Reasoning is beside completion_tokens, unless the total says otherwise.
function xai(raw) {
  const usage = openai(raw)
  const reasoning = usage.completion_tokens_details.reasoning_tokens
  if (raw.total_tokens == null) return raw.prompt_tokens == null ? usage : withReasoning(usage, reasoning)
  const isBeside = usage.total_tokens === usage.prompt_tokens + usage.completion_tokens + reasoning
  return isBeside ? withReasoning(usage, reasoning) : usage
}

// Its billed units. A rerank has search units and no tokens.
function cohere(raw) {
  const units = details(raw, 'billed_units')
  const billed = Object.keys(units).length ? units : details(raw, 'tokens')
  const prompt = count(billed, 'input_tokens')
  return makeUsage(prompt, count(billed, 'output_tokens'), { cached: Math.min(count(raw, 'cached_tokens'), prompt) })
}

// Adds reasoning to the completion that was counted beside it.
function withReasoning(usage, beside) {
  const completion = usage.completion_tokens + beside
  const of = usage.completion_tokens_details
  return {
    ...usage,
    completion_tokens: completion,
    total_tokens: usage.prompt_tokens + completion,
    completion_tokens_details: { ...of, reasoning_tokens: Math.max(of.reasoning_tokens, beside) },
  }
}

// The first count that is there under one of the names, 0 where none is. A whole number may come as 5.0.
function count(of, ...names) {
  const name = names.find((each) => of[each] != null)
  if (name === undefined) return 0
  if (!Number.isSafeInteger(of[name]) || of[name] < 0) throw new TypeError(`${name} is a whole number of 0 or more, not ${of[name]}`)
  return of[name]
}

// The audio tokens of a list of counts by modality.
function audioOf(raw, ...names) {
  const parts = names.map((name) => raw[name]).find(Array.isArray) ?? []
  return parts.filter((part) => isObject(part) && part.modality === 'AUDIO').reduce((sum, part) => sum + count(part, 'tokenCount', 'token_count'), 0)
}

function details(of, ...names) {
  return names.map((name) => of[name]).find(isObject) ?? {}
}

function isObject(value) {
  return value !== null && typeof value === 'object' && !Array.isArray(value)
}
