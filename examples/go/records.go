package main

import (
	"encoding/json"
	"errors"
	"fmt"
)

const (
	topicRequests = "metering.requests"
	topicVerdicts = "metering.verdicts"
	topicKeys     = "metering.keys"
	progressKey   = "\x00progress"
)

// errNewer says that a record is of a newer release: nothing after it may be believed.
var errNewer = errors.New("a record of a newer format")

// Key is a record of metering.keys.
type Key struct {
	Org       string `json:"org"`
	KeyID     string `json:"key_id"`
	Hash      string `json:"hash"`
	Tier      string `json:"tier"`
	RPMLimit  *int   `json:"rpm_limit"`
	ExpiresMs *int64 `json:"expires_ms"`
	Revoked   bool   `json:"revoked"`
	Version   int64  `json:"version"`
}

// Verdict is a record of metering.verdicts whose key is an org's id.
type Verdict struct {
	Org         string   `json:"org"`
	BalanceNano *int64   `json:"balance_nano"`
	Refused     []Window `json:"refused"`
}

// Window is a time in which a key is refused: from (included) and until (not). Limit and Used are nano-rupees of a
// budget, requests of a daily limit.
type Window struct {
	KeyID, Code                  string
	FromMs, UntilMs, Limit, Used int64
}

// Progress is the record of metering.verdicts with the key progressKey.
type Progress struct {
	Partition      *int32 `json:"partition"`
	RequestsOffset *int64 `json:"requests_offset"`
}

// UnmarshalJSON reads a window, an array: [key, code, from, until, limit, used], and perhaps more one day.
func (w *Window) UnmarshalJSON(data []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(data, &parts); err != nil {
		return err
	}
	fields := []any{&w.KeyID, &w.Code, &w.FromMs, &w.UntilMs, &w.Limit, &w.Used}
	if len(parts) < len(fields) {
		return fmt.Errorf("a window has %d parts, not %d", len(fields), len(parts))
	}
	for at, field := range fields {
		if err := json.Unmarshal(parts[at], field); err != nil {
			return err
		}
	}
	return nil
}

// take hands a record of a followed topic to the admission. It returns errNewer where nothing may be read after it, and
// another error where the record alone cannot be read.
func take(to *Admission, topic, key string, value []byte) error {
	switch {
	case topic == topicKeys && value == nil:
		to.ForgetKey(key)
	case topic == topicKeys:
		found, err := read[Key](value)
		if err == nil && (found.Org == "" || found.KeyID == "" || found.Hash == "" || found.Tier != "standard" && found.Tier != trial) {
			err = errors.New("a key has an org, an id, a hash and a tier")
		}
		if err != nil {
			return err
		}
		to.TakeKey(found)
	case value == nil:
		to.ForgetVerdict(key)
	case key == progressKey:
		found, err := read[Progress](value)
		if err == nil && (found.Partition == nil || found.RequestsOffset == nil) {
			err = errors.New("progress has a partition and an offset")
		}
		if err != nil {
			return err
		}
		to.TakeProgress(found)
	default:
		found, err := read[Verdict](value)
		if err == nil && (found.Org == "" || found.BalanceNano == nil || found.Refused == nil) {
			err = errors.New("a verdict has an org, a balance and windows")
		}
		if err != nil {
			return err
		}
		to.TakeVerdict(found)
	}
	return nil
}

// read decodes a record, unless it is of another format than this program knows.
func read[T any](value []byte) (T, error) {
	var found T
	var of struct {
		Format *int `json:"format"`
	}
	if err := json.Unmarshal(value, &of); err != nil {
		return found, err
	}
	if of.Format != nil && *of.Format != 1 {
		return found, fmt.Errorf("%w: %d", errNewer, *of.Format)
	}
	return found, json.Unmarshal(value, &found)
}
