package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

const tokensMax = 100_000_000

// Usage is what an event says of tokens. docs/gateway.md tells how each provider counts.
type Usage struct {
	PromptTokens     int64             `json:"prompt_tokens"`
	CompletionTokens int64             `json:"completion_tokens"`
	TotalTokens      int64             `json:"total_tokens"`
	Prompt           PromptDetails     `json:"prompt_tokens_details"`
	Completion       CompletionDetails `json:"completion_tokens_details"`
}

// PromptDetails are parts of the prompt.
type PromptDetails struct {
	Cached     int64 `json:"cached_tokens"`
	CacheWrite int64 `json:"cache_write_tokens"`
	Audio      int64 `json:"audio_tokens"`
}

// CompletionDetails are parts of the completion.
type CompletionDetails struct {
	Reasoning int64 `json:"reasoning_tokens"`
	Audio     int64 `json:"audio_tokens"`
}

// counts reads the counts of a provider's object; the first that is none stays in err.
type counts struct{ err error }

type object = map[string]any

// usageOf returns the event's usage from a provider's own object in the dialect of that provider.
func usageOf(raw object, dialect string) (Usage, error) {
	read := map[string]func(*counts, object) Usage{
		"openai": (*counts).openai, "anthropic": (*counts).anthropic, "gemini": (*counts).gemini, "bedrock": (*counts).bedrock,
		"deepseek": (*counts).deepseek, "xai": (*counts).xai, "cohere": (*counts).cohere,
	}[dialect]
	if read == nil {
		return Usage{}, fmt.Errorf("there is no dialect %q", dialect)
	}
	if raw == nil {
		return Usage{}, errors.New("the provider told no usage")
	}
	var c counts
	usage := read(&c, raw)
	if max(usage.PromptTokens, usage.CompletionTokens) > tokensMax {
		c.err = fmt.Errorf("no request has more than %d tokens", tokensMax)
	}
	return usage, c.err
}

// openai reads Chat Completions, and Responses and audio, which have other names. Cached audio stands in two counts.
func (c *counts) openai(raw object) Usage {
	prompt := details(raw, "prompt_tokens_details", "input_tokens_details", "input_token_details")
	completion := details(raw, "completion_tokens_details", "output_tokens_details", "output_token_details")
	cachedAudio := c.count(details(prompt, "cached_tokens_details"), "audio_tokens")
	usage := Usage{
		PromptTokens:     c.count(raw, "prompt_tokens", "input_tokens"),
		CompletionTokens: c.count(raw, "completion_tokens", "output_tokens"),
		Prompt: PromptDetails{
			c.count(prompt, "cached_tokens"), c.count(prompt, "cache_write_tokens"),
			max(c.count(prompt, "audio_tokens")-cachedAudio, 0),
		},
		Completion: CompletionDetails{c.count(completion, "reasoning_tokens"), c.count(completion, "audio_tokens")},
	}
	if raw["total_tokens"] == nil {
		return usage.summed()
	}
	usage.TotalTokens = c.count(raw, "total_tokens")
	return usage
}

// anthropic: what was read from and written to the cache is beside input_tokens.
func (c *counts) anthropic(raw object) Usage {
	read, written := c.count(raw, "cache_read_input_tokens"), c.count(raw, "cache_creation_input_tokens")
	if written == 0 {
		for lifetime := range details(raw, "cache_creation") {
			written += c.count(details(raw, "cache_creation"), lifetime)
		}
	}
	return Usage{
		PromptTokens:     c.count(raw, "input_tokens") + read + written,
		CompletionTokens: c.count(raw, "output_tokens"),
		Prompt:           PromptDetails{Cached: read, CacheWrite: written},
	}.summed()
}

// gemini: thoughts are output beside the candidates. The OpenAI-compatible endpoint tells of them in the total alone.
func (c *counts) gemini(raw object) Usage {
	isNative := raw["promptTokenCount"] != nil || raw["prompt_token_count"] != nil
	if !isNative && raw["prompt_tokens"] != nil {
		usage := c.openai(raw)
		if beside := usage.TotalTokens - usage.PromptTokens - usage.CompletionTokens; beside > 0 {
			return usage.withReasoning(beside)
		}
		return usage
	}
	prompt := c.count(raw, "promptTokenCount", "prompt_token_count") + c.count(raw, "toolUsePromptTokenCount", "tool_use_prompt_token_count")
	answer := c.count(raw, "candidatesTokenCount", "candidates_token_count", "responseTokenCount", "response_token_count")
	total := c.count(raw, "totalTokenCount", "total_token_count")
	thoughts := max(c.count(raw, "thoughtsTokenCount", "thoughts_token_count"), total-prompt-answer)
	cachedAudio := c.audio(raw, "cacheTokensDetails", "cache_tokens_details")
	return Usage{
		PromptTokens:     prompt,
		CompletionTokens: answer + thoughts,
		Prompt: PromptDetails{
			Cached: c.count(raw, "cachedContentTokenCount", "cached_content_token_count"),
			Audio:  max(c.audio(raw, "promptTokensDetails", "prompt_tokens_details")-cachedAudio, 0),
		},
		Completion: CompletionDetails{thoughts, c.audio(
			raw, "candidatesTokensDetails", "candidates_tokens_details", "responseTokensDetails", "response_tokens_details",
		)},
	}.summed()
}

// bedrock: what was read from and written to the cache is beside inputTokens, and not always in the total.
func (c *counts) bedrock(raw object) Usage {
	read, written := c.count(raw, "cacheReadInputTokens"), c.count(raw, "cacheWriteInputTokens")
	return Usage{
		PromptTokens:     c.count(raw, "inputTokens") + read + written,
		CompletionTokens: c.count(raw, "outputTokens"),
		Prompt:           PromptDetails{Cached: read, CacheWrite: written},
	}.summed()
}

// deepseek: cache hits stand at the top.
func (c *counts) deepseek(raw object) Usage {
	usage := c.openai(raw)
	usage.Prompt.Cached = max(usage.Prompt.Cached, c.count(raw, "prompt_cache_hit_tokens"))
	return usage
}

// xai: reasoning is beside completion_tokens, unless the total says otherwise.
func (c *counts) xai(raw object) Usage {
	usage := c.openai(raw)
	reasoning := usage.Completion.Reasoning
	if raw["total_tokens"] == nil {
		if raw["prompt_tokens"] == nil {
			return usage
		}
		return usage.withReasoning(reasoning)
	}
	if usage.TotalTokens == usage.PromptTokens+usage.CompletionTokens+reasoning {
		return usage.withReasoning(reasoning)
	}
	return usage
}

// cohere charges its billed units. A rerank has search units and no tokens.
func (c *counts) cohere(raw object) Usage {
	billed := details(raw, "billed_units")
	if len(billed) == 0 {
		billed = details(raw, "tokens")
	}
	prompt := c.count(billed, "input_tokens")
	return Usage{
		PromptTokens:     prompt,
		CompletionTokens: c.count(billed, "output_tokens"),
		Prompt:           PromptDetails{Cached: min(c.count(raw, "cached_tokens"), prompt)},
	}.summed()
}

func (u Usage) summed() Usage {
	u.TotalTokens = u.PromptTokens + u.CompletionTokens
	return u
}

// withReasoning adds reasoning to the completion that was counted beside it.
func (u Usage) withReasoning(beside int64) Usage {
	u.CompletionTokens += beside
	u.Completion.Reasoning = max(u.Completion.Reasoning, beside)
	return u.summed()
}

// count returns the first count that is there under one of the names, 0 where none is. A whole number may come as 5.0.
func (c *counts) count(of object, names ...string) int64 {
	for _, name := range names {
		if of[name] == nil {
			continue
		}
		number, isNumber := of[name].(json.Number)
		found, err := strconv.ParseFloat(number.String(), 64)
		if !isNumber || err != nil || found < 0 || found > 1<<53 || found != float64(int64(found)) {
			c.err = fmt.Errorf("%s is a whole number of 0 or more, not %v", name, of[name])
			return 0
		}
		return int64(found)
	}
	return 0
}

// audio returns the audio tokens of a list of counts by modality.
func (c *counts) audio(of object, names ...string) (tokens int64) {
	for _, name := range names {
		parts, isList := of[name].([]any)
		if !isList {
			continue
		}
		for _, part := range parts {
			if part, isObject := part.(object); isObject && part["modality"] == "AUDIO" {
				tokens += c.count(part, "tokenCount", "token_count")
			}
		}
		return tokens
	}
	return 0
}

func details(of object, names ...string) object {
	for _, name := range names {
		if found, isObject := of[name].(object); isObject {
			return found
		}
	}
	return nil
}
