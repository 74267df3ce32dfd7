package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"time"
)

const (
	serveLimit   = 10 * time.Minute
	clientClosed = "client_closed"
	eventType    = "bharatrouter.request.completed.v1"
	ownKeyHeader = "X-Provider-Key" // the org's own key at the provider: such a request costs nothing here
)

// Event is one request that is over, as docs/events.md has it. The spool fills in source and sequence.
type Event struct {
	SpecVersion string `json:"specversion"`
	Type        string `json:"type"`
	Source      string `json:"source"`
	ID          string `json:"id"`
	Subject     string `json:"subject"`
	Time        string `json:"time"`
	Sequence    string `json:"sequence"`
	Data        Data   `json:"data"`
}

// Data is what happened in a request.
type Data struct {
	KeyID     string `json:"key_id"`
	Tier      string `json:"tier"`
	BYOK      bool   `json:"byok"`
	Model     string `json:"model"`
	Provider  string `json:"provider,omitempty"`
	Status    int    `json:"status"`
	ErrorCode string `json:"error_code,omitempty"`
	LatencyMs int64  `json:"latency_ms"`
	TTFTMs    *int64 `json:"ttft_ms,omitempty"`
	Stream    bool   `json:"stream"`
	Usage     *Usage `json:"usage,omitempty"`
}

// Gateway answers requests.
type Gateway struct {
	admission *Admission
	spool     *Spool
	routes    map[string][]Route
}

// serving is a request that was admitted, on its way to an event.
type serving struct {
	key     *Key
	asked   Asked
	byok    bool
	hold    Hold
	route   Route
	started time.Time
	ttft    *int64
}

// ServeHTTP answers POST /v1/chat/completions.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	key, refusal := g.admission.Authenticate(bearer(r))
	if refusal != nil {
		refusal.answer(w)
		return
	}
	asked, refusal := readBody(w, r)
	if refusal != nil {
		refusal.answer(w)
		return
	}
	routes := g.routes[asked.model]
	if routes == nil {
		refuse(codeNotFound, fmt.Sprintf("there is no model %q here", asked.model)).answer(w)
		return
	}
	if g.spool.IsFull() {
		refuseUnavailable().answer(w)
		return
	}
	byok := r.Header.Get(ownKeyHeader)
	hold, refusal := g.admission.Admit(key.Org, key.KeyID, key.Tier, byok != "", asked.mostNano(routes))
	if refusal != nil {
		refusal.answer(w)
		return
	}
	g.serve(w, r, &serving{key: key, asked: asked, byok: byok != "", hold: hold, started: started}, routes, byok)
}

func readBody(w http.ResponseWriter, r *http.Request) (Asked, *Refusal) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, requestBytesMax))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return Asked{}, refuse(codeTooLarge, fmt.Sprintf("the body is above %d bytes", requestBytesMax))
	}
	if err == nil {
		var asked Asked
		if asked, err = readAsked(body); err == nil {
			return asked, nil
		}
	}
	return Asked{}, refuse(codeInvalidRequest, err.Error())
}

// serve asks one provider after the other until one answers. A client that leaves does not stop it: most providers go on
// and charge for all of it, so the answer is read to its end, and the client charged.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, s *serving, routes []Route, providerKey string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), serveLimit)
	defer cancel()
	var failure *Refusal
	for _, s.route = range routes {
		response, err := s.route.ask(ctx, s.asked, providerKey)
		if err != nil {
			failure = failureOf(err)
			continue
		}
		defer response.Body.Close()
		switch {
		case response.StatusCode == http.StatusOK && s.asked.stream:
			g.stream(w, r, s, response)
			return
		case response.StatusCode == http.StatusOK:
			g.whole(w, r, s, response)
			return
		}
		message, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
		failure = refuse(codeProvider, fmt.Sprintf("%s answered %d: %s", s.route.Provider, response.StatusCode, message))
		failure.Status = response.StatusCode
		if response.StatusCode < 500 && response.StatusCode != http.StatusTooManyRequests {
			break // it is the request, and no other provider would like it better
		}
	}
	g.fail(s, failure).answer(w)
}

func (g *Gateway) whole(w http.ResponseWriter, r *http.Request, s *serving, response *http.Response) {
	body, err := io.ReadAll(io.LimitReader(response.Body, answerBytesMax))
	var answer object
	if err == nil {
		err = decode(body, &answer)
	}
	if err != nil {
		g.fail(s, failureOf(err)).answer(w)
		return
	}
	s.first()
	raw, _ := answer["usage"].(object)
	usage, err := usageOf(raw, s.route.Dialect)
	if err != nil {
		log.Printf("%s: %v", s.route.Provider, err)
		usage = guess(s.asked, int64(len(body)))
	}
	if refusal := g.end(s, http.StatusOK, closed(r), &usage); refusal != nil {
		refusal.answer(w)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

// stream hands an answer on as it comes, all but its end: that goes out when the event is stored.
func (g *Gateway) stream(w http.ResponseWriter, r *http.Request, s *serving, response *http.Response) {
	w.Header().Set("Content-Type", "text/event-stream")
	flusher := http.NewResponseController(w)
	var held bytes.Buffer
	var read streamRead
	lines := bufio.NewReader(response.Body)
	for !read.done && read.failure == nil {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			read.failure = failureOf(err)
			break
		}
		if !read.take(line, s.asked.wantsUsage) {
			continue
		}
		s.first()
		if read.ending {
			held.Write(line)
			continue
		}
		_, _ = w.Write(line)
		_ = flusher.Flush()
	}
	usage, err := usageOf(read.usage, s.route.Dialect)
	var refusal *Refusal
	switch {
	case read.failure != nil && err == nil:
		refusal = g.failWith(s, read.failure, &usage)
	case read.failure != nil:
		refusal = g.fail(s, read.failure)
	default:
		if err != nil {
			log.Printf("%s: %v", s.route.Provider, err)
			usage = guess(s.asked, read.textBytes)
		}
		refusal = g.end(s, http.StatusOK, closed(r), &usage)
	}
	if refusal != nil {
		_, _ = fmt.Fprintf(w, "data: %s\n\n", refusal.envelope())
		return
	}
	_, _ = w.Write(held.Bytes())
}

// streamRead is what a stream has said so far.
type streamRead struct {
	usage     object
	textBytes int64
	ending    bool // the last word is said; what is left is the usage and [DONE]
	done      bool
	failure   *Refusal
}

// take reads a line, and says whether it is handed on: a chunk that has the usage alone goes to who asked for it.
func (s *streamRead) take(line []byte, wantsUsage bool) bool {
	data, isData := bytes.CutPrefix(bytes.TrimSpace(line), []byte("data:"))
	if !isData {
		return true
	}
	if string(bytes.TrimSpace(data)) == "[DONE]" {
		s.ending, s.done = true, true
		return true
	}
	var chunk object
	if err := decode(data, &chunk); err != nil {
		s.failure = failureOf(err)
		return false
	}
	if failed, isError := chunk["error"]; isError && failed != nil {
		text, _ := json.Marshal(failed)
		s.failure = refuse(codeProvider, string(text))
		return false
	}
	if usage, told := chunk["usage"].(object); told {
		s.usage = usage // where each chunk has one they are cumulative
	}
	choices, _ := chunk["choices"].([]any)
	for _, choice := range choices {
		of, _ := choice.(object)
		s.ending = s.ending || of["finish_reason"] != nil
		text, _ := details(of, "delta")["content"].(string)
		s.textBytes += int64(len(text))
	}
	return len(choices) > 0 || wantsUsage
}

// fail ends a request that no provider served, and returns what to answer.
func (g *Gateway) fail(s *serving, failure *Refusal) *Refusal { return g.failWith(s, failure, nil) }

func (g *Gateway) failWith(s *serving, failure *Refusal, usage *Usage) *Refusal {
	if refusal := g.end(s, failure.Status, failure.Code, usage); refusal != nil {
		return refusal
	}
	return failure
}

// end stores the event of a request. It returns a refusal where that cannot be: what is not stored is not handed out.
func (g *Gateway) end(s *serving, status int, code string, usage *Usage) *Refusal {
	if status >= http.StatusBadRequest {
		g.admission.Release(s.hold) // it costs nothing
		s.hold.Nano = 0
	}
	event := Event{
		SpecVersion: "1.0", Type: eventType, ID: newID(), Subject: s.key.Org,
		Time: time.Now().UTC().Format("2006-01-02T15:04:05.000Z07:00"),
		Data: Data{
			KeyID: s.key.KeyID, Tier: s.key.Tier, BYOK: s.byok, Model: s.route.Model, Provider: s.route.Provider,
			Status: status, ErrorCode: code, LatencyMs: time.Since(s.started).Milliseconds(), TTFTMs: s.ttft,
			Stream: s.asked.stream, Usage: usage,
		},
	}
	if err := g.spool.Append(event, s.hold.Nano); err != nil {
		log.Printf("an event could not be stored: %v", err)
		g.admission.Release(s.hold)
		refusal := refuse(codeUnavailable, "the request could not be recorded; try again")
		refusal.RetryAfter = 1
		return refusal
	}
	return nil
}

func (s *serving) first() {
	if s.ttft == nil {
		ms := time.Since(s.started).Milliseconds()
		s.ttft = &ms
	}
}

// failureOf words what went wrong with a provider: the gateway's own limit, or the provider.
func failureOf(err error) *Refusal {
	if errors.Is(err, context.DeadlineExceeded) {
		return refuse(codeTimeout, "the provider did not answer in time")
	}
	return refuse(codeProvider, "the provider broke off: "+err.Error())
}

// closed returns the error code of a request whose client went away before its end: it is charged all the same.
func closed(r *http.Request) string {
	if r.Context().Err() != nil {
		return clientClosed
	}
	return ""
}

func bearer(r *http.Request) string {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(secret)
}

func newID() string {
	var id [16]byte
	_, _ = rand.Read(id[:])
	return fmt.Sprintf("%x", id)
}
