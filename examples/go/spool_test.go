package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func event(id string) Event {
	return Event{SpecVersion: "1.0", Type: eventType, ID: id, Subject: "org_1"}
}

func opened(t *testing.T, dir string) *Spool {
	t.Helper()
	spool, err := OpenSpool(dir, "test", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return spool
}

func eventsFile(t *testing.T, dir string) string {
	t.Helper()
	paths, _ := filepath.Glob(filepath.Join(dir, "*.events"))
	if len(paths) != 1 {
		t.Fatalf("%d files", len(paths))
	}
	return paths[0]
}

// copied returns a directory with the spool as a crash leaves it: nobody has it open.
func copied(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func ids(t *testing.T, batch Batch) (ids, sequences, sources []string) {
	t.Helper()
	for _, line := range batch.Lines {
		var found Event
		if err := json.Unmarshal(line.Event, &found); err != nil {
			t.Fatal(err)
		}
		ids, sequences, sources = append(ids, found.ID), append(sequences, found.Sequence), append(sources, found.Source)
	}
	return ids, sequences, sources
}

func TestWhatWasNotAcknowledgedIsSentAgainUnderTheSameNumbers(t *testing.T) {
	dir := t.TempDir()
	spool := opened(t, dir)
	for _, id := range []string{"a", "b", "c"} {
		if err := spool.Append(event(id), 5); err != nil {
			t.Fatal(err)
		}
	}
	first, _ := spool.Next()
	crashed := copied(t, dir)
	if err := spool.Acknowledge(first); err != nil {
		t.Fatal(err)
	}
	acknowledged := copied(t, dir)

	again, _ := opened(t, crashed).Next()
	beforeIDs, beforeNumbers, beforeSources := ids(t, first)
	afterIDs, afterNumbers, afterSources := ids(t, again)
	for _, pair := range [][2][]string{{beforeIDs, afterIDs}, {beforeNumbers, afterNumbers}, {beforeSources, afterSources}} {
		if strings.Join(pair[0], " ") != strings.Join(pair[1], " ") || len(pair[0]) != 3 {
			t.Errorf("%v became %v", pair[0], pair[1])
		}
	}
	next := opened(t, acknowledged)
	if rest, _ := next.Next(); len(rest.Lines) != 0 {
		t.Errorf("%d events are sent again", len(rest.Lines))
	}
	if err := next.Append(event("d"), 0); err != nil {
		t.Fatal(err)
	}
	batch, _ := next.Next()
	if _, numbers, sources := ids(t, batch); numbers[0] != "00000000000000000001" || sources[0] == beforeSources[0] {
		t.Errorf("a new process numbers %v of %v", numbers, sources)
	}
}

func TestATornEndIsCutOffAndDamageIsAnError(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(string) string
		events int
	}{
		"half a line":          {func(text string) string { return text + `{"hold_nano":5,"ev` }, 2},
		"zeros":                {func(text string) string { return text + strings.Repeat("\x00", 100) }, 2},
		"damage in the middle": {func(text string) string { return "x" + text[1:] }, -1},
	} {
		dir := t.TempDir()
		spool := opened(t, dir)
		for _, id := range []string{"a", "b"} {
			if err := spool.Append(event(id), 5); err != nil {
				t.Fatal(err)
			}
		}
		crashed := copied(t, dir)
		text, _ := os.ReadFile(eventsFile(t, crashed))
		if err := os.WriteFile(eventsFile(t, crashed), []byte(c.spoil(string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := OpenSpool(crashed, "test", 1<<20)
		if (err != nil) != (c.events < 0) {
			t.Fatalf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		held := 0
		if err := again.Leftovers(func(Spooled) { held++ }); err != nil {
			t.Fatal(err)
		}
		if batch, _ := again.Next(); len(batch.Lines) != c.events || held != c.events {
			t.Errorf("%s: %d events, %d held", name, len(batch.Lines), held)
		}
	}
}

func TestAFullSpoolAndAnotherProcessAreRefused(t *testing.T) {
	dir := t.TempDir()
	spool, err := OpenSpool(dir, "test", 300)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSpool(dir, "test", 300); err == nil {
		t.Error("two processes have one spool")
	}
	stored := 0
	for spool.Append(event("a"), 0) == nil {
		stored++
	}
	if stored == 0 || !spool.IsFull() {
		t.Errorf("%d events were stored", stored)
	}
	batch, _ := spool.Next()
	if err := spool.Acknowledge(batch); err != nil {
		t.Fatal(err)
	}
	if err := spool.Append(event("b"), 0); err != nil {
		t.Error(err)
	}
}
