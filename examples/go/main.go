// A gateway that is metered by this product, without its library: docs/gateway-protocol.md step by step.
//
// A request is admitted from memory (admission.go), which is fed from Kafka (follow.go, records.go); refusals are worded
// in refusal.go. A provider serves it (provider.go, chat.go), its usage is read (usage.go), and its event is on the disk
// (spool.go) before the end of the answer goes out. From there it goes to Kafka (send.go).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const (
	stopLimit  = 20 * time.Second
	drainLimit = 10 * time.Second
)

func main() {
	kafka := flag.String("kafka-url", os.Getenv("METERING_KAFKA_URL"), "kafka://host:port, more brokers after commas")
	node := flag.String("node", os.Getenv("METERING_NODE"), "this node's name in the source of its events")
	spoolDir := flag.String("spool-dir", os.Getenv("METERING_SPOOL_DIR"), "where events wait for Kafka; of this process alone")
	spoolBytes := flag.Int64("spool-bytes-max", 1<<30, "so much may wait, then nothing more is served")
	routesFile := flag.String("routes", "../routes.json", "the models, and who serves them")
	listen := flag.String("listen", "127.0.0.1:8010", "where to answer")
	whenStale := flag.String("when-stale", "open", "open: go on by the last verdicts; closed: answer 503")
	flag.Parse()
	if *kafka == "" || *node == "" || *spoolDir == "" || (*whenStale != "open" && *whenStale != "closed") {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*kafka, *node, *spoolDir, *spoolBytes, *routesFile, *listen, *whenStale == "open"); err != nil {
		log.Fatal(err)
	}
}

func run(kafka, node, spoolDir string, spoolBytes int64, routesFile, listen string, openWhenStale bool) error {
	routes, err := readRoutes(routesFile)
	if err != nil {
		return err
	}
	spool, err := OpenSpool(spoolDir, node, spoolBytes)
	if err != nil {
		return err
	}
	brokers := strings.Split(strings.TrimPrefix(kafka, "kafka://"), ",")
	admission := NewAdmission(time.Now, openWhenStale)
	if err := spool.Leftovers(func(left Spooled) { admission.Hold(holdOf(left)) }); err != nil {
		return err
	}
	follower, err := NewFollower(brokers, admission)
	if err != nil {
		return err
	}
	sender, err := NewSender(brokers, spool, admission)
	if err != nil {
		return err
	}
	background, stopBackground := context.WithCancel(context.Background())
	defer stopBackground()
	go follower.Run(background)
	go sender.Run(background)

	mux := http.NewServeMux()
	mux.Handle("POST /v1/chat/completions", &Gateway{admission, spool, routes})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { health(w, admission, spool, follower, sender) })
	server := &http.Server{Addr: listen, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stopped, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	log.Printf("answering on http://%s", listen)
	select {
	case err := <-failed:
		return err
	case <-stopped.Done():
	}
	return end(server, spool)
}

// end lets the requests under way end, and Kafka take what waits. What it has not taken by then is sent by the next start.
func end(server *http.Server, spool *Spool) error {
	limit, cancel := context.WithTimeout(context.Background(), stopLimit)
	defer cancel()
	if err := server.Shutdown(limit); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	for deadline := time.Now().Add(drainLimit); spool.Waiting() > 0 && time.Now().Before(deadline); {
		time.Sleep(lookAgain)
	}
	log.Printf("stopped; %d bytes of events wait for the next start", spool.Waiting())
	return nil
}

func holdOf(left Spooled) Hold {
	var event Event
	_ = json.Unmarshal(left.Event, &event) // looked through when the spool was opened
	return Hold{event.Subject, left.HoldNano}
}

func health(w http.ResponseWriter, admission *Admission, spool *Spool, follower *Follower, sender *Sender) {
	standing := admission.Standing()
	stoppedBy, unread := follower.problems()
	told := object{
		"ready": standing.Ready, "stale": standing.Stale, "waiting_bytes": spool.Waiting(), "records_unread": unread,
		"sending": sender.problem.Load(), "following": "",
	}
	if stoppedBy != nil {
		told["following"] = stoppedBy.Error()
	}
	w.Header().Set("Content-Type", "application/json")
	if !standing.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(told)
}
