package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
)

const (
	answerTokens    = 4096 // the most of an answer where the request sets no limit, so that there is something to reserve
	bytesOfAToken   = 4    // a guess, for a provider that tells no usage. Put your tokenizer there
	answerBytesMax  = 64 << 20
	requestBytesMax = 8 << 20
)

// Route is one way to serve a model: an OpenAI-compatible provider, and the most that it costs by the catalog.
type Route struct {
	Model              string `json:"model"`
	Provider           string `json:"provider"`
	Dialect            string `json:"dialect"` // how the provider counts tokens
	URL                string `json:"url"`
	APIKeyVariable     string `json:"api_key_variable"` // of the environment
	InputNanoPerToken  int64  `json:"input_nano_per_token"`
	OutputNanoPerToken int64  `json:"output_nano_per_token"`
	RequestNano        int64  `json:"request_nano"`
}

// readRoutes returns the routes of each model, in the order in which they are tried.
func readRoutes(path string) (map[string][]Route, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []Route
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	routes := map[string][]Route{}
	for _, route := range all {
		if _, err := usageOf(object{}, route.Dialect); err != nil || route.Model == "" || route.Provider == "" || route.URL == "" {
			return nil, fmt.Errorf("%s: a route has a model, a provider, a url and a dialect, unlike %+v", path, route)
		}
		routes[route.Model] = append(routes[route.Model], route)
	}
	return routes, nil
}

// Asked is a chat completion that a client asks for.
type Asked struct {
	body         object
	bytes        int64
	model        string
	stream       bool
	wantsUsage   bool
	answerTokens int64 // all answers together, at most
}

// readAsked reads a client's body, and sets what the provider is asked for beyond it: a limit, and the usage of a stream.
func readAsked(body []byte) (Asked, error) {
	asked := Asked{bytes: int64(len(body))}
	var limits struct {
		Model               string `json:"model"`
		Stream              bool   `json:"stream"`
		MaxTokens           *int64 `json:"max_tokens"`
		MaxCompletionTokens *int64 `json:"max_completion_tokens"`
		N                   *int64 `json:"n"`
		StreamOptions       object `json:"stream_options"`
	}
	if err := json.Unmarshal(body, &limits); err != nil {
		return asked, err
	}
	if err := decode(body, &asked.body); err != nil {
		return asked, err
	}
	if asked.body == nil {
		return asked, errors.New("the body is a JSON object")
	}
	asked.model, asked.stream = limits.Model, limits.Stream
	asked.wantsUsage = limits.StreamOptions["include_usage"] == true
	tokens, choices := int64(answerTokens), int64(1)
	for _, limit := range []*int64{limits.MaxTokens, limits.MaxCompletionTokens} {
		if limit != nil {
			tokens = *limit
		}
	}
	if limits.MaxTokens == nil && limits.MaxCompletionTokens == nil {
		asked.body["max_tokens"] = tokens
	}
	if limits.N != nil {
		choices = *limits.N
	}
	if tokens < 1 || choices < 1 || tokens > tokensMax || choices > tokensMax/tokens {
		return asked, fmt.Errorf("max_tokens and n are from 1 to %d together", tokensMax)
	}
	if asked.stream {
		options := object{"include_usage": true}
		for name, value := range limits.StreamOptions {
			if name != "include_usage" {
				options[name] = value
			}
		}
		asked.body["stream_options"] = options
	}
	asked.answerTokens = tokens * choices
	return asked, nil
}

// mostNano returns what a request can cost at most: a token of the prompt is a byte at least.
func (a Asked) mostNano(routes []Route) int64 {
	most := int64(0)
	for _, route := range routes {
		most = max(most, a.bytes*route.InputNanoPerToken+a.answerTokens*route.OutputNanoPerToken+route.RequestNano)
	}
	return most
}

// ask calls a provider. providerKey is the org's own, empty where there is none.
func (r Route) ask(ctx context.Context, asked Asked, providerKey string) (*http.Response, error) {
	body, err := json.Marshal(asked.body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL+"/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if providerKey == "" {
		providerKey = os.Getenv(r.APIKeyVariable)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+providerKey)
	return http.DefaultClient.Do(request)
}

// guess returns a usage for an answer whose provider told none, or none that can be: nothing is served for nothing.
func guess(asked Asked, answerBytes int64) Usage {
	return Usage{PromptTokens: asked.bytes / bytesOfAToken, CompletionTokens: (answerBytes + bytesOfAToken - 1) / bytesOfAToken}.summed()
}

// decode reads JSON whose numbers stay as they are written.
func decode(data []byte, to any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	return decoder.Decode(to)
}
