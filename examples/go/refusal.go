package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The codes of docs/errors.md that a gateway answers with.
const (
	codeInvalidRequest = "invalid_request"
	codeInvalidKey     = "invalid_api_key"
	codeNoCredits      = "insufficient_credits"
	codeNotFound       = "not_found"
	codeTooLarge       = "body_too_large"
	codeBudget         = "budget_exceeded"
	codeDailyLimit     = "daily_limit_reached"
	codeKeyRefused     = "key_refused"
	codeRate           = "rate_limit_exceeded"
	codeUnavailable    = "unavailable"
	codeProvider       = "provider_error"
	codeTimeout        = "provider_timeout"
)

var statuses = map[string]int{
	codeInvalidRequest: http.StatusBadRequest, codeInvalidKey: http.StatusUnauthorized,
	codeNoCredits: http.StatusPaymentRequired, codeNotFound: http.StatusNotFound,
	codeTooLarge: http.StatusRequestEntityTooLarge, codeBudget: http.StatusTooManyRequests,
	codeDailyLimit: http.StatusTooManyRequests, codeKeyRefused: http.StatusTooManyRequests,
	codeRate: http.StatusTooManyRequests, codeUnavailable: http.StatusServiceUnavailable,
	codeProvider: http.StatusBadGateway, codeTimeout: http.StatusGatewayTimeout,
}

var errorTypes = map[int]string{
	http.StatusBadRequest: "invalid_request_error", http.StatusRequestEntityTooLarge: "invalid_request_error",
	http.StatusUnauthorized: "authentication_error", http.StatusPaymentRequired: "billing_error",
	http.StatusNotFound: "not_found_error", http.StatusTooManyRequests: "rate_limit_error",
	http.StatusServiceUnavailable: "unavailable_error",
}

var ist = time.FixedZone("IST", 5*3600+1800)

// Refusal is an answer that is an error: its body is {"error": ...}.
type Refusal struct {
	Status     int             `json:"-"`
	RetryAfter int             `json:"-"` // whole seconds, 0 where waiting does not help
	Message    string          `json:"message"`
	Type       string          `json:"type"`
	Code       string          `json:"code"`
	LimitINR   json.RawMessage `json:"limit_inr,omitempty"`
	SpentINR   json.RawMessage `json:"spent_inr,omitempty"`
	ResetsAt   string          `json:"resets_at,omitempty"`
}

func refuse(code, message string) *Refusal {
	status := statuses[code]
	kind := errorTypes[status]
	if kind == "" {
		kind = "api_error"
	}
	return &Refusal{Status: status, Message: message, Type: kind, Code: code}
}

func refuseUnavailable() *Refusal {
	refusal := refuse(codeUnavailable, "credits cannot be checked right now; try again")
	refusal.RetryAfter = 1
	return refusal
}

func refuseRate(limit int, wait time.Duration) *Refusal {
	refusal := refuse(codeRate, fmt.Sprintf("the key may make %d requests a minute", limit))
	refusal.RetryAfter = wholeSeconds(wait)
	return refusal
}

// refuseWindow words the window of a verdict. It is worth asking again at its end, or when the IST month turns.
func refuseWindow(window Window, now time.Time) *Refusal {
	here := now.In(ist)
	until, month := time.UnixMilli(window.UntilMs), time.Date(here.Year(), here.Month()+1, 1, 0, 0, 0, 0, ist)
	again := until
	if month.Before(until) {
		again = month
	}
	var refusal *Refusal
	switch window.Code {
	case codeBudget:
		refusal = refuse(codeBudget, "the key's monthly budget is spent")
		refusal.LimitINR, refusal.SpentINR = inr(window.Limit), inr(window.Used)
	case codeDailyLimit:
		refusal = refuse(codeDailyLimit, fmt.Sprintf("the key's %d requests of this IST day are used up", window.Limit))
	default: // a newer worker knows more reasons
		refusal = refuse(codeKeyRefused, "the key is refused")
	}
	if window.Code == codeBudget || again.Equal(until) {
		refusal.ResetsAt = again.In(ist).Format("2006-01-02T15:04:05.000-07:00")
	}
	refusal.RetryAfter = wholeSeconds(again.Sub(now))
	return refusal
}

func wholeSeconds(wait time.Duration) int {
	return max(1, int((wait+time.Second-1)/time.Second))
}

// inr returns nano-rupees as a JSON number of rupees, exactly.
func inr(nano int64) json.RawMessage {
	sign := ""
	if nano < 0 {
		sign, nano = "-", -nano
	}
	const one = 1_000_000_000
	text := fmt.Sprintf("%s%d.%09d", sign, nano/one, nano%one)
	return json.RawMessage(strings.TrimRight(strings.TrimRight(text, "0"), "."))
}

func (r *Refusal) envelope() []byte {
	body, _ := json.Marshal(map[string]*Refusal{"error": r})
	return body
}

func (r *Refusal) answer(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	if r.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(r.RetryAfter))
	}
	switch r.Code {
	case codeNoCredits, codeBudget, codeDailyLimit, codeKeyRefused:
		w.Header().Set("x-should-retry", "false") // OpenAI's clients would try again after seconds, which does not help
	}
	w.WriteHeader(r.Status)
	_, _ = w.Write(r.envelope())
}
