package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	fileBytes  = 64 << 20
	batchBytes = 512 << 10 // a record stays far below Kafka's megabyte
	batchLines = 500
)

var errFull = errors.New("the spool is full")

// Spooled is one line of the spool: an event, and what is reserved for it.
type Spooled struct {
	HoldNano int64           `json:"hold_nano"`
	Event    json.RawMessage `json:"event"`
}

// Spool keeps events on disk until Kafka has them.
//
// Each file is a source of its own, whose events are numbered by their lines: so a number is never given twice, whatever
// is lost or restored, and a file that is sent a second time is charged once. A process always begins a new file.
type Spool struct {
	dir, node string
	bytesMax  int64
	incoming  chan *appending
	More      chan struct{} // has something in it when there is more to send

	mu      sync.Mutex
	files   []*spoolFile // the oldest first
	current *spoolFile   // the one that is written to, nil where none is
	writing *os.File
	lines   int64
}

type spoolFile struct {
	path       string
	size, sent int64 // bytes that are durable, and that Kafka has
	partitions int   // as many as the topic had when the first of it was sent
}

type appending struct {
	event Event
	hold  int64
	done  chan error
}

// OpenSpool opens a directory for this process alone. It returns an error where a stored event cannot be read: none is
// ever skipped.
func OpenSpool(dir, node string, bytesMax int64) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("another process has the spool %s: %w", dir, err)
	}
	spool := &Spool{
		dir: dir, node: node, bytesMax: bytesMax,
		incoming: make(chan *appending, 1024), More: make(chan struct{}, 1),
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.events"))
	if err != nil {
		return nil, err
	}
	sort.Strings(paths) // their names begin with the time
	for _, path := range paths {
		file, err := openFile(path)
		if err != nil {
			return nil, err
		}
		spool.files = append(spool.files, file)
	}
	spool.wake()
	go spool.write()
	return spool, nil
}

// openFile looks through a file of an earlier process. What a crash left half written at its end was never reported as
// stored, and is cut off.
func openFile(path string) (*spoolFile, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if torn := bytes.IndexByte(data, 0); torn >= 0 {
		data = data[:torn] // a power cut may leave zeros where data was not written yet
	}
	data = data[:bytes.LastIndexByte(data, '\n')+1]
	for number, line := range bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")) {
		if len(data) > 0 && !json.Valid(line) {
			return nil, fmt.Errorf("%s: line %d is damaged", path, number+1)
		}
	}
	if err := os.Truncate(path, int64(len(data))); err != nil {
		return nil, err
	}
	file := &spoolFile{path: path, size: int64(len(data))}
	if mark, err := os.ReadFile(markOf(path)); err == nil {
		// Without the mark, or with a damaged one, all is sent again, and charged once.
		_, _ = fmt.Sscanf(string(mark), "%d %d", &file.sent, &file.partitions)
		if file.sent > file.size {
			file.sent = 0
		}
	}
	return file, nil
}

func markOf(path string) string { return strings.TrimSuffix(path, ".events") + ".sent" }

// --- storing ---

// Append stores an event, which survives a power cut once it returned nil. Where it returns an error nothing is stored.
func (s *Spool) Append(event Event, holdNano int64) error {
	one := &appending{event, holdNano, make(chan error, 1)}
	s.incoming <- one
	return <-one.done
}

// IsFull says whether too much waits for Kafka already: then nothing more is to be served.
func (s *Spool) IsFull() bool { return s.Waiting() >= s.bytesMax }

// Waiting returns how many bytes Kafka does not have yet.
func (s *Spool) Waiting() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := int64(0)
	for _, file := range s.files {
		waiting += file.size - file.sent
	}
	return waiting
}

// write stores all events that wait with one fsync.
func (s *Spool) write() {
	for first := range s.incoming {
		together := []*appending{first}
		for more := true; more && len(together) < batchLines; {
			select {
			case next := <-s.incoming:
				together = append(together, next)
			default:
				more = false
			}
		}
		err := s.store(together)
		for _, one := range together {
			one.done <- err
		}
		if err == nil {
			s.wake()
		}
	}
}

func (s *Spool) store(together []*appending) error {
	if s.IsFull() {
		return errFull
	}
	if err := s.begin(); err != nil {
		return err
	}
	file := s.current
	source := strings.TrimSuffix(filepath.Base(file.path), ".events")
	var lines bytes.Buffer
	for at, one := range together {
		one.event.Source = fmt.Sprintf("gateway/%s/%s", s.node, source)
		one.event.Sequence = fmt.Sprintf("%020d", s.lines+int64(at)+1)
		event, err := json.Marshal(one.event)
		if err != nil {
			return err
		}
		line, err := json.Marshal(Spooled{one.hold, event})
		if err != nil {
			return err
		}
		lines.Write(append(line, '\n'))
	}
	_, err := s.writing.Write(lines.Bytes())
	if err == nil {
		err = s.writing.Sync()
	}
	if err != nil {
		// Nothing of it may be sent one day: these requests are answered as not served. What follows gets a new file.
		if cut := s.writing.Truncate(file.size); cut != nil {
			panic(fmt.Sprintf("%s can neither be written (%v) nor cut (%v)", file.path, err, cut))
		}
		s.end()
		return err
	}
	s.lines += int64(len(together))
	s.mu.Lock()
	file.size += int64(lines.Len())
	s.mu.Unlock()
	return nil
}

// begin sees to it that there is a file to write to.
func (s *Spool) begin() error {
	if s.current != nil && s.current.size >= fileBytes {
		s.end()
	}
	if s.current != nil {
		return nil
	}
	var unique [4]byte
	_, _ = rand.Read(unique[:])
	path := filepath.Join(s.dir, fmt.Sprintf("%019d-%s.events", time.Now().UnixNano(), hex.EncodeToString(unique[:])))
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if err := syncDirectory(s.dir); err != nil {
		_ = file.Close()
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.writing, s.lines = &spoolFile{path: path}, file, 0
	s.files = append(s.files, s.current)
	return nil
}

func (s *Spool) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.writing.Close()
	s.current, s.writing = nil, nil
}

func syncDirectory(dir string) error {
	opened, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer opened.Close()
	return opened.Sync()
}

func (s *Spool) wake() {
	select {
	case s.More <- struct{}{}:
	default:
	}
}

// --- sending ---

// Batch is a run of events that follow each other in one file.
type Batch struct {
	Lines []Spooled
	file  *spoolFile
	bytes int64
}

// Next returns the oldest events that Kafka does not have, none where there are none. Files that are done with go.
func (s *Spool) Next() (Batch, error) {
	for {
		file, size, isWritten := s.oldest()
		if file == nil {
			return Batch{}, nil
		}
		if file.sent < size {
			return readBatch(file, size)
		}
		if isWritten {
			return Batch{}, nil
		}
		if err := s.drop(file); err != nil {
			return Batch{}, err
		}
	}
}

func (s *Spool) oldest() (file *spoolFile, size int64, isWritten bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.files) == 0 {
		return nil, 0, false
	}
	return s.files[0], s.files[0].size, s.files[0] == s.current
}

func (s *Spool) drop(file *spoolFile) error {
	s.mu.Lock()
	s.files = s.files[1:]
	s.mu.Unlock()
	if err := os.Remove(file.path); err != nil {
		return err
	}
	if err := os.Remove(markOf(file.path)); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

func readBatch(file *spoolFile, size int64) (Batch, error) {
	batch := Batch{file: file}
	opened, err := os.Open(file.path)
	if err != nil {
		return batch, err
	}
	defer opened.Close()
	lines := bufio.NewReader(io.NewSectionReader(opened, file.sent, size-file.sent))
	for len(batch.Lines) < batchLines && batch.bytes < batchBytes {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			break
		}
		if err != nil {
			return batch, err
		}
		var spooled Spooled
		if err := json.Unmarshal(line, &spooled); err != nil {
			return batch, fmt.Errorf("%s: %w", file.path, err)
		}
		batch.Lines = append(batch.Lines, spooled)
		batch.bytes += int64(len(line))
	}
	return batch, nil
}

// CheckPartitions keeps a batch from being sent where the topic has another number of partitions than when the first
// events of its file were sent: a partition knows the duplicates of its own events alone.
func (s *Spool) CheckPartitions(batch Batch, partitions int) error {
	if batch.file.partitions != 0 && batch.file.partitions != partitions {
		return fmt.Errorf("%s has %d partitions, the waiting events were sent to %d: restore the topic", topicRequests, partitions, batch.file.partitions)
	}
	if batch.file.partitions == 0 {
		batch.file.partitions = partitions
		return s.mark(batch.file)
	}
	return nil
}

// Acknowledge notes that Kafka has a batch.
func (s *Spool) Acknowledge(batch Batch) error {
	s.mu.Lock()
	batch.file.sent += batch.bytes
	s.mu.Unlock()
	return s.mark(batch.file)
}

// mark is not waited for to reach the disk: what it has forgotten is sent again, and charged once.
func (s *Spool) mark(file *spoolFile) error {
	next := markOf(file.path) + ".next"
	if err := os.WriteFile(next, fmt.Appendf(nil, "%d %d\n", file.sent, file.partitions), 0o600); err != nil {
		return err
	}
	return os.Rename(next, markOf(file.path))
}

// Leftovers calls f with every event that an earlier process left.
func (s *Spool) Leftovers(f func(Spooled)) error {
	s.mu.Lock()
	files := append([]*spoolFile{}, s.files...)
	s.mu.Unlock()
	for _, file := range files {
		for seen := *file; seen.sent < seen.size; {
			batch, err := readBatch(&seen, seen.size)
			if err != nil {
				return err
			}
			for _, line := range batch.Lines {
				f(line)
			}
			seen.sent += batch.bytes
		}
	}
	return nil
}
