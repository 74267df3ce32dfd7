package main

import (
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"time"
)

const (
	trial          = "trial"
	trialPerMinute = 60
	staleAfter     = 10 * time.Second
	exactBelowNano = 1000 * 1_000_000_000 // above 1,000 rupees a balance may be a sixteenth lower than was told
	slackShare     = 16
)

// Hold is a part of an org's balance that is promised to a request: in nano-rupees.
type Hold struct {
	Org  string
	Nano int64
}

// Admission is all that the gateway knows, and what it says to a request. It asks nobody and waits for nothing.
type Admission struct {
	mu            sync.Mutex
	now           func() time.Time
	openWhenStale bool
	orgs          map[string]*org
	keys          map[string]*Key // by the key's id
	byHash        map[string]*Key // by the SHA-256 of its secret
	admitted      map[string][]time.Time
	sent          map[int32]*sentEvents
	readAt        time.Time // when all that the broker had was known; zero before the first time
}

type org struct {
	known       bool // a verdict was told
	balanceNano int64
	heldNano    int64
	windows     []Window
}

// sentEvents are those of one partition that Kafka has and the verdicts do not count yet.
type sentEvents struct {
	countedBelow int64
	waiting      []sentEvent
}

type sentEvent struct {
	offset int64
	at     time.Time
	hold   Hold
}

// NewAdmission knows nothing yet. openWhenStale goes on by the last verdicts where they are stale, else everybody gets 503.
func NewAdmission(now func() time.Time, openWhenStale bool) *Admission {
	return &Admission{
		now: now, openWhenStale: openWhenStale,
		orgs: map[string]*org{}, keys: map[string]*Key{}, byHash: map[string]*Key{},
		admitted: map[string][]time.Time{}, sent: map[int32]*sentEvents{},
	}
}

// --- asking ---

// Authenticate returns the key with this secret, or why there is none. A key that was revoked or has expired is
// returned: Admit refuses it.
func (a *Admission) Authenticate(secret string) (*Key, *Refusal) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.isShut() {
		return nil, refuseUnavailable()
	}
	hash := sha256.Sum256([]byte(secret))
	key := a.byHash[hex.EncodeToString(hash[:])]
	if key == nil {
		return nil, refuse(codeInvalidKey, "an API key is needed: Authorization: Bearer br-..., active and not revoked")
	}
	return key, nil
}

// Admit says whether a request may be served, in the order of docs/gateway-protocol.md, and reserves costNano for it.
func (a *Admission) Admit(orgID, keyID, tier string, byok bool, costNano int64) (Hold, *Refusal) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	key, org := a.keys[keyID], a.org(orgID)
	paid := tier != trial && !byok
	if a.isShut() {
		return Hold{}, refuseUnavailable()
	}
	if refusal := refusedKey(key, now); refusal != nil {
		return Hold{}, refusal
	}
	if spendable := org.floorNano() - org.heldNano; paid && (!org.known || spendable <= 0 || spendable < costNano) {
		return Hold{}, refuse(codeNoCredits, "the balance is used up, or does not cover what this request may cost")
	}
	for _, window := range org.windows {
		if window.KeyID == keyID && window.FromMs <= now.UnixMilli() && now.UnixMilli() < window.UntilMs {
			return Hold{}, refuseWindow(window, now)
		}
	}
	if refusal := a.admitMinute(keyID, perMinute(key, tier), now); refusal != nil {
		return Hold{}, refusal
	}
	hold := Hold{Org: orgID}
	if paid {
		hold.Nano = costNano
		org.heldNano += costNano
	}
	return hold, nil
}

func refusedKey(key *Key, now time.Time) *Refusal {
	switch {
	case key == nil:
		return nil
	case key.Revoked:
		return refuse(codeInvalidKey, "this API key was revoked")
	case key.ExpiresMs != nil && *key.ExpiresMs <= now.UnixMilli():
		return refuse(codeInvalidKey, "this API key has expired")
	}
	return nil
}

// perMinute returns how many requests a key may make in any 60 seconds, 0 for any number.
func perMinute(key *Key, tier string) int {
	limit := 0
	if key != nil && key.RPMLimit != nil {
		limit = *key.RPMLimit
	}
	if tier == trial && (limit == 0 || limit > trialPerMinute) {
		limit = trialPerMinute
	}
	return limit
}

func (a *Admission) admitMinute(keyID string, limit int, now time.Time) *Refusal {
	if limit == 0 {
		return nil
	}
	times := a.admitted[keyID]
	for len(times) > 0 && now.Sub(times[0]) >= time.Minute {
		times = times[1:]
	}
	a.admitted[keyID] = times
	if len(times) >= limit {
		return refuseRate(limit, times[len(times)-limit].Add(time.Minute).Sub(now))
	}
	a.admitted[keyID] = append(times, now)
	return nil
}

// --- reservations ---

// Hold reserves for an event that was found in the spool.
func (a *Admission) Hold(hold Hold) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.org(hold.Org).heldNano += hold.Nano
}

// Release gives a reservation back: the request failed, or its event was not stored.
func (a *Admission) Release(hold Hold) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.release(hold)
}

// Sent notes that Kafka has an event: its reservation ends when the verdicts count its offset.
func (a *Admission) Sent(partition int32, offset int64, hold Hold) {
	a.mu.Lock()
	defer a.mu.Unlock()
	sent := a.sentOf(partition)
	if offset < sent.countedBelow {
		a.release(hold)
		return
	}
	sent.waiting = append(sent.waiting, sentEvent{offset, a.now(), hold})
}

func (a *Admission) release(hold Hold) { a.org(hold.Org).heldNano -= hold.Nano }

// --- being told ---

// TakeVerdict takes in an org's balance and windows, in place of the earlier ones.
func (a *Admission) TakeVerdict(verdict Verdict) {
	a.mu.Lock()
	defer a.mu.Unlock()
	org := a.org(verdict.Org)
	org.known, org.balanceNano, org.windows = true, *verdict.BalanceNano, verdict.Refused
}

// ForgetVerdict knows nothing of an org any more.
func (a *Admission) ForgetVerdict(orgID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	org := a.org(orgID)
	org.known, org.windows = false, nil
}

// TakeProgress takes in how far the verdicts of a partition count. Where that fell, the topic began anew, and nothing
// that was sent before will ever be counted.
func (a *Admission) TakeProgress(progress Progress) {
	a.mu.Lock()
	defer a.mu.Unlock()
	sent := a.sentOf(*progress.Partition)
	below := *progress.RequestsOffset
	anew := below < sent.countedBelow
	sent.countedBelow = below
	for len(sent.waiting) > 0 && (anew || sent.waiting[0].offset < below) {
		a.release(sent.waiting[0].hold)
		sent.waiting = sent.waiting[1:]
	}
}

// TakeKey takes in a key; of two records the one with the higher version counts.
func (a *Admission) TakeKey(key Key) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if earlier := a.keys[key.KeyID]; earlier != nil {
		if earlier.Version > key.Version {
			return
		}
		delete(a.byHash, earlier.Hash)
	}
	a.keys[key.KeyID], a.byHash[key.Hash] = &key, &key
}

// ForgetKey knows a key no more.
func (a *Admission) ForgetKey(keyID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if key := a.keys[keyID]; key != nil {
		delete(a.byHash, key.Hash)
		delete(a.keys, keyID)
	}
}

// CaughtUp notes that all that the broker had at an instant is known.
func (a *Admission) CaughtUp(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.readAt = at
}

// --- how it stands ---

// Standing is how fresh the gateway's knowledge is.
type Standing struct {
	Ready bool `json:"ready"`
	Stale bool `json:"stale"`
}

// Standing returns whether everything was read once, and whether it may no longer be believed.
func (a *Admission) Standing() Standing {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Standing{Ready: !a.readAt.IsZero(), Stale: a.isStale()}
}

// isShut: before the first reading nobody is known, so nobody is served; after it the operator decides.
func (a *Admission) isShut() bool {
	return a.readAt.IsZero() || (!a.openWhenStale && a.isStale())
}

// isStale: the broker was not heard for too long, or the worker has not counted an event of ours for too long.
func (a *Admission) isStale() bool {
	now := a.now()
	stale := now.Sub(a.readAt) > staleAfter
	for _, sent := range a.sent {
		stale = stale || len(sent.waiting) > 0 && now.Sub(sent.waiting[0].at) > staleAfter
	}
	return stale
}

func (o *org) floorNano() int64 {
	if o.balanceNano > exactBelowNano {
		return o.balanceNano - o.balanceNano/slackShare
	}
	return o.balanceNano
}

func (a *Admission) org(id string) *org {
	if a.orgs[id] == nil {
		a.orgs[id] = &org{}
	}
	return a.orgs[id]
}

func (a *Admission) sentOf(partition int32) *sentEvents {
	if a.sent[partition] == nil {
		a.sent[partition] = &sentEvents{}
	}
	return a.sent[partition]
}
