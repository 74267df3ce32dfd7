package main

import (
	"context"
	"encoding/json"
	"log"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	linger    = 3 * time.Millisecond
	sendAgain = time.Second
)

// Sender carries the spool to Kafka: in order, and one batch after the other.
type Sender struct {
	client    *kgo.Client
	admin     *kadm.Client
	spool     *Spool
	admission *Admission
	problem   atomic.Value // string
}

// NewSender prepares; Run connects.
func NewSender(brokers []string, spool *Spool, admission *Admission) (*Sender, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...),
		// Idempotent, acks=all and retries without end are what this client does by itself.
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0),
	)
	if err != nil {
		return nil, err
	}
	sender := &Sender{client: client, admin: kadm.NewClient(client), spool: spool, admission: admission}
	sender.problem.Store("")
	return sender, nil
}

// Run sends until the context ends. After a failure it goes on with the first event that is not acknowledged: what Kafka
// had got already is sent twice, and charged once, by its number.
func (s *Sender) Run(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.send(ctx)
		if ctx.Err() != nil {
			return
		}
		log.Printf("events wait in the spool: %v", err)
		s.problem.Store(err.Error())
		wait(ctx, sendAgain)
	}
}

func (s *Sender) send(ctx context.Context) error {
	partitions, err := s.partitions(ctx)
	if err != nil {
		return err
	}
	for {
		batch, err := s.spool.Next()
		if err != nil {
			return err
		}
		if len(batch.Lines) == 0 {
			s.problem.Store("")
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-s.spool.More:
			}
			wait(ctx, linger)
			continue
		}
		if err := s.spool.CheckPartitions(batch, partitions); err != nil {
			return err
		}
		if err := s.sendBatch(ctx, batch, partitions); err != nil {
			return err
		}
	}
}

func (s *Sender) sendBatch(ctx context.Context, batch Batch, partitions int) error {
	records, holds, err := pack(batch.Lines, partitions)
	if err != nil {
		return err
	}
	if err := s.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return err
	}
	for at, record := range records {
		for _, hold := range holds[at] {
			s.admission.Sent(record.Partition, record.Offset, hold)
		}
	}
	return s.spool.Acknowledge(batch)
}

// pack makes one record of the events of each partition, an array in the order in which they happened.
func pack(lines []Spooled, partitions int) (records []*kgo.Record, holds [][]Hold, err error) {
	at := map[int32]int{}
	for _, line := range lines {
		var event struct {
			Subject string `json:"subject"`
		}
		if err := json.Unmarshal(line.Event, &event); err != nil {
			return nil, nil, err
		}
		partition := partitionOf(event.Subject, partitions)
		place, known := at[partition]
		if !known {
			place = len(records)
			at[partition] = place
			records = append(records, &kgo.Record{Topic: topicRequests, Key: []byte(event.Subject), Partition: partition})
			holds = append(holds, nil)
		}
		separator := byte(',')
		if !known {
			separator = '['
		}
		record := records[place]
		record.Value = append(append(record.Value, separator), line.Event...)
		holds[place] = append(holds[place], Hold{event.Subject, line.HoldNano})
	}
	for _, record := range records {
		record.Value = append(record.Value, ']')
	}
	return records, holds, nil
}

// partitionOf returns where an org belongs, by Kafka's own partitioner as this client has it.
func partitionOf(org string, partitions int) int32 {
	partitioner := kgo.StickyKeyPartitioner(nil).ForTopic(topicRequests)
	return int32(partitioner.Partition(&kgo.Record{Key: []byte(org)}, partitions))
}

func (s *Sender) partitions(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	topics, err := s.admin.ListTopics(ctx, topicRequests)
	if err != nil {
		return 0, err
	}
	return len(topics[topicRequests].Partitions), topics[topicRequests].Err
}
