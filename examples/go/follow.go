package main

import (
	"context"
	"errors"
	"log"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	confirmEvery = time.Second
	askLimit     = 5 * time.Second
	lookAgain    = 10 * time.Millisecond
)

// Follower reads the keys and the verdicts from the beginning and then as they come.
type Follower struct {
	client    *kgo.Client
	admin     *kadm.Client
	admission *Admission

	mu        sync.Mutex
	read      map[string]map[int32]int64 // the next offset of each partition
	unread    int                        // records that could not be read
	stoppedBy error
}

// NewFollower prepares; Run connects, and goes on whether or not a broker is there.
func NewFollower(brokers []string, admission *Admission) (*Follower, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...),
		kgo.ConsumeTopics(topicVerdicts, topicKeys),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// The markers that end transactions have offsets too: without them the end of a topic is never reached.
		kgo.KeepControlRecords(),
	)
	if err != nil {
		return nil, err
	}
	read := map[string]map[int32]int64{topicVerdicts: {}, topicKeys: {}}
	return &Follower{client: client, admin: kadm.NewClient(client), admission: admission, read: read}, nil
}

// Run reads until the context ends, or until a record of a newer format, after which nothing may be believed.
func (f *Follower) Run(ctx context.Context) {
	defer f.client.Close()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go f.confirm(ctx)
	for ctx.Err() == nil {
		fetches := f.client.PollFetches(ctx)
		fetches.EachError(func(topic string, partition int32, err error) {
			if !errors.Is(err, context.Canceled) {
				log.Printf("reading %s/%d: %v", topic, partition, err)
			}
		})
		for records := fetches.RecordIter(); !records.Done(); {
			if err := f.take(records.Next()); err != nil {
				log.Printf("stopped: %v. Upgrade this gateway", err)
				return
			}
		}
	}
}

func (f *Follower) take(record *kgo.Record) error {
	if !record.Attrs.IsControl() {
		err := take(f.admission, record.Topic, string(record.Key), record.Value)
		if errors.Is(err, errNewer) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.stoppedBy = err
			return err
		}
		if err != nil {
			log.Printf("%s/%d, offset %d cannot be read and is skipped: %v", record.Topic, record.Partition, record.Offset, err)
			f.mu.Lock()
			f.unread++
			f.mu.Unlock()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.read[record.Topic][record.Partition] = record.Offset + 1
	return nil
}

// confirm asks the broker once a second where the topics end, and notes when all below has been read: that a topic is
// silent says nothing.
func (f *Follower) confirm(ctx context.Context) {
	for ctx.Err() == nil {
		asked := time.Now()
		starts, ends, err := f.ends(ctx)
		for err == nil && time.Since(asked) < confirmEvery {
			if f.hasRead(starts, ends) {
				f.admission.CaughtUp(asked)
				break
			}
			time.Sleep(lookAgain)
		}
		if err != nil && ctx.Err() == nil {
			log.Printf("asking where %s and %s end: %v", topicVerdicts, topicKeys, err)
		}
		wait(ctx, confirmEvery-time.Since(asked))
	}
}

func (f *Follower) ends(ctx context.Context) (starts, ends kadm.ListedOffsets, err error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	if starts, err = f.admin.ListStartOffsets(ctx, topicVerdicts, topicKeys); err == nil {
		ends, err = f.admin.ListCommittedOffsets(ctx, topicVerdicts, topicKeys)
	}
	if err == nil {
		err = ends.Error()
	}
	return starts, ends, err
}

func (f *Follower) hasRead(starts, ends kadm.ListedOffsets) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := len(ends[topicVerdicts]) > 0 && len(ends[topicKeys]) > 0
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(end.Topic, end.Partition)
		all = all && (f.read[end.Topic][end.Partition] >= end.Offset || start.Offset == end.Offset)
	})
	return all
}

// problems returns what an operator has to know.
func (f *Follower) problems() (stoppedBy error, unread int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stoppedBy, f.unread
}

func wait(ctx context.Context, how time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(how):
	}
}
