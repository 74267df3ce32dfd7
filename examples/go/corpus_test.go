package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The corpus of this repository: what every gateway has to agree with.
const (
	schemas = "../../schemas"
	corpus  = schemas + "/corpus"
)

func load[T any](t *testing.T, path string) T {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var found T
	if err := decode(data, &found); err != nil {
		t.Fatal(err)
	}
	return found
}

func batchSchema(t *testing.T, formats bool) *jsonschema.Schema {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	compiler.UseRegexpEngine(func(pattern string) (jsonschema.Regexp, error) {
		// JSON Schema's patterns are JavaScript's, whose escapes of characters Go writes otherwise.
		return regexp.Compile(regexp.MustCompile(`\\u([0-9a-f]{4})`).ReplaceAllString(pattern, `\x{$1}`))
	})
	if formats {
		compiler.AssertFormat()
	}
	compiled, err := compiler.Compile(schemas + "/request-event-batch.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func TestAnOrgIsOnItsPartition(t *testing.T) {
	vectors := load[struct {
		Orgs []struct {
			Org        string
			Partitions map[string]int32
		}
	}](t, corpus+"/partitions.json")
	if len(vectors.Orgs) == 0 {
		t.Fatal("no vectors")
	}
	for _, of := range vectors.Orgs {
		for text, expected := range of.Partitions {
			partitions, _ := strconv.Atoi(text)
			if found := partitionOf(of.Org, partitions); found != expected {
				t.Errorf("%q of %d: %d, not %d", of.Org, partitions, found, expected)
			}
		}
	}
}

func TestTheSchemaMakesOfEachEventWhatTheIndexSays(t *testing.T) {
	index := load[struct {
		Files []struct{ File, Schema string }
	}](t, corpus+"/index.json")
	plain, withFormats := batchSchema(t, false), batchSchema(t, true)
	for _, entry := range index.Files {
		if entry.Schema == "not JSON" {
			continue // what a parser takes for JSON differs
		}
		data, err := os.ReadFile(filepath.Join(corpus, entry.File))
		if err != nil {
			t.Fatal(err)
		}
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			t.Errorf("%s: %v", entry.File, err)
			continue
		}
		if accepted := plain.Validate(document) == nil; accepted != (entry.Schema != "refuses") {
			t.Errorf("%s: accepted %v, though it %s", entry.File, accepted, entry.Schema)
		}
		if accepted := withFormats.Validate(document) == nil; accepted != (entry.Schema == "accepts") {
			t.Errorf("%s, with formats: accepted %v, though it %s", entry.File, accepted, entry.Schema)
		}
	}
}

// Each usage goes all the way into an event, which passes the schema.
func TestEachProvidersUsageBecomesWhatTheCorpusSays(t *testing.T) {
	examples := load[struct {
		Examples []struct {
			Dialect, Why string
			Raw          object
			Expected     Usage
		}
	}](t, schemas+"/usage-corpus.json").Examples
	spool, err := OpenSpool(t.TempDir(), "test", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	gateway, schema := &Gateway{admission: NewAdmission(time.Now, true), spool: spool}, batchSchema(t, true)
	for _, example := range examples {
		found, err := usageOf(example.Raw, example.Dialect)
		if err != nil || found != example.Expected {
			t.Errorf("%s: %s: %+v (%v), not %+v", example.Dialect, example.Why, found, err, example.Expected)
		}
		serving := &serving{key: &Key{Org: "org_1", KeyID: "key_1", Tier: "standard"}, route: Route{Model: "m", Provider: "p"}, started: time.Now()}
		if refusal := gateway.end(serving, 200, "", &found); refusal != nil {
			t.Fatal(refusal)
		}
	}
	batch, err := spool.Next()
	if err != nil || len(batch.Lines) != len(examples) || len(examples) == 0 {
		t.Fatalf("%d events (%v) of %d examples", len(batch.Lines), err, len(examples))
	}
	for _, line := range batch.Lines {
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(line.Event))
		if err == nil {
			err = schema.Validate([]any{document})
		}
		if err != nil {
			t.Errorf("%s: %v", line.Event, err)
		}
	}
}

func TestCountsThatAreNoneAreErrors(t *testing.T) {
	for _, text := range []string{`{"prompt_tokens": -1}`, `{"prompt_tokens": 1.5}`, `{"prompt_tokens": "5"}`, `{"prompt_tokens": true}`, `{"prompt_tokens": 1e30}`} {
		var raw object
		if err := decode([]byte(text), &raw); err != nil {
			t.Fatal(err)
		}
		if usage, err := usageOf(raw, "openai"); err == nil {
			t.Errorf("%s: %+v", text, usage)
		}
	}
	if _, err := usageOf(nil, "openai"); err == nil {
		t.Error("no usage at all")
	}
}

type followed struct {
	File, Topic, Key, After string
	Accepts, Stops          bool
	Asks                    []struct {
		Org    string
		KeyID  string `json:"key_id"`
		Tier   string
		BYOK   bool
		At     *time.Time
		Answer *string
	}
}

func TestAGatewayAnswersAsTheCorpusSays(t *testing.T) {
	index := load[struct {
		ReadAt time.Time `json:"read_at"`
		Files  []followed
	}](t, corpus+"/followed.json")
	for _, entry := range index.Files {
		now := index.ReadAt
		admission := NewAdmission(func() time.Time { return now }, true)
		for _, earlier := range index.Files {
			if earlier.File == entry.After {
				if err := takeFile(t, admission, earlier); err != nil {
					t.Fatal(err)
				}
			}
		}
		err := takeFile(t, admission, entry)
		if (err == nil) != entry.Accepts || errors.Is(err, errNewer) != entry.Stops {
			t.Errorf("%s: %v", entry.File, err)
		}
		admission.CaughtUp(now)
		for _, asked := range entry.Asks {
			if now = index.ReadAt; asked.At != nil {
				now = *asked.At
			}
			_, refusal := admission.Admit(asked.Org, asked.KeyID, asked.Tier, asked.BYOK, 0)
			answer, expected := "", ""
			if refusal != nil {
				answer = refusal.Code
			}
			if asked.Answer != nil {
				expected = *asked.Answer
			}
			if answer != expected {
				t.Errorf("%s: %+v is answered %q, not %q", entry.File, asked, answer, expected)
			}
		}
	}
}

func takeFile(t *testing.T, admission *Admission, entry followed) error {
	t.Helper()
	value, err := os.ReadFile(filepath.Join(corpus, entry.File))
	if err != nil {
		t.Fatal(err)
	}
	return take(admission, entry.Topic, entry.Key, value)
}

// The words of a refusal are those of the protocol's page.
func TestTheRefusalIsThatOfThePage(t *testing.T) {
	window := Window{"key_1", codeBudget, 1780252200000, 1782844200000, 20_000_000_000, 22_500_000_000}
	refusal := refuseWindow(window, time.Date(2026, 6, 12, 18, 30, 0, 0, time.UTC))
	var found, expected object
	page := `{"error": {"message": "the key's monthly budget is spent", "type": "rate_limit_error", "code": "budget_exceeded",
		"limit_inr": 20, "spent_inr": 22.5, "resets_at": "2026-07-01T00:00:00.000+05:30"}}`
	for text, to := range map[string]*object{string(refusal.envelope()): &found, page: &expected} {
		if err := decode([]byte(text), to); err != nil {
			t.Fatal(err)
		}
	}
	one, _ := json.Marshal(found)
	other, _ := json.Marshal(expected)
	if string(one) != string(other) || refusal.RetryAfter != 18*24*3600 {
		t.Errorf("%s, after %d s", one, refusal.RetryAfter)
	}
}
