// etcdload gives etcd the load that tools/bench/_load.py gives meshswarm: a closed loop of so many
// clients in one process, each with one request under way. It prints one JSON object.
//
// -kind put   a put of 256 bytes under one of 10,000 keys; with -batch n, a transaction of n puts
// -kind get   a linearizable read of one of them
// -kind first kill the process -pid with SIGKILL, and put until one is acknowledged
package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	mathrand "math/rand"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/etcd/clientv3"
)

const (
	keys    = 10_000
	size    = 256
	warmUp  = time.Second
	perConn = 32
)

var number uint64

// value is a fresh content: eight counted bytes before random ones.
func value(rest []byte) string {
	content := make([]byte, size)
	copy(content[8:], rest)
	binary.BigEndian.PutUint64(content, atomic.AddUint64(&number, 1))
	return string(content)
}

func key(draw *mathrand.Rand) string { return fmt.Sprintf("k%08d", draw.Intn(keys)) }

type request func(context.Context, *clientv3.Client, *mathrand.Rand, []byte) error

func put(ctx context.Context, c *clientv3.Client, draw *mathrand.Rand, rest []byte) error {
	_, err := c.Put(ctx, key(draw), value(rest))
	return err
}

func get(ctx context.Context, c *clientv3.Client, draw *mathrand.Rand, _ []byte) error {
	_, err := c.Get(ctx, key(draw))
	return err
}

// several puts `batch` different keys in one transaction.
func several(batch int) request {
	return func(ctx context.Context, c *clientv3.Client, draw *mathrand.Rand, rest []byte) error {
		first := draw.Intn(keys)
		operations := make([]clientv3.Op, batch)
		for i := range operations {
			name := fmt.Sprintf("k%08d", (first+i)%keys)
			operations[i] = clientv3.OpPut(name, value(rest))
		}
		_, err := c.Txn(ctx).Then(operations...).Commit()
		return err
	}
}

func connect(endpoints []string) *clientv3.Client {
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 5 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	return c
}

// load runs the closed loop and gives the times of the requests begun after the warm-up.
func load(endpoints []string, clients int, seconds float64, do request) ([]time.Duration, time.Duration) {
	connections := make([]*clientv3.Client, (clients+perConn-1)/perConn)
	for i := range connections {
		connections[i] = connect(endpoints)
	}
	rest := make([]byte, size-8)
	if _, err := rand.Read(rest); err != nil {
		log.Fatal(err)
	}
	measured := time.Now().Add(warmUp)
	ends := measured.Add(time.Duration(seconds * float64(time.Second)))
	var lock sync.Mutex
	var all []time.Duration
	var done sync.WaitGroup
	for i := 0; i < clients; i++ {
		done.Add(1)
		go func(c *clientv3.Client, draw *mathrand.Rand) {
			defer done.Done()
			var times []time.Duration
			for asked := time.Now(); asked.Before(ends); asked = time.Now() {
				if err := do(context.Background(), c, draw, rest); err != nil {
					log.Fatal(err)
				}
				if !asked.Before(measured) {
					times = append(times, time.Since(asked))
				}
			}
			lock.Lock()
			all = append(all, times...)
			lock.Unlock()
		}(connections[i%len(connections)], mathrand.New(mathrand.NewSource(time.Now().UnixNano()+int64(i))))
	}
	done.Wait()
	return all, time.Since(measured)
}

// first is how long after the end of the process `pid` a put is acknowledged.
func first(endpoints []string, pid int) time.Duration {
	connections := make([]*clientv3.Client, len(endpoints))
	for i, endpoint := range endpoints {
		connections[i] = connect([]string{endpoint})
		if _, err := connections[i].Put(context.Background(), "first", "before"); err != nil {
			log.Fatal(err)
		}
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		log.Fatal(err)
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	acknowledged := make(chan struct{}, 1<<14)
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		for _, c := range connections {
			go func(c *clientv3.Client) {
				if _, err := c.Put(ctx, "first", "after"); err == nil {
					acknowledged <- struct{}{}
				}
			}(c)
		}
		select {
		case <-acknowledged:
			return time.Since(began)
		case <-ctx.Done():
			log.Fatal("no put was acknowledged within 20 s")
		case <-tick.C:
		}
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func main() {
	endpoints := flag.String("endpoints", "", "host:port, separated by commas")
	kind := flag.String("kind", "put", "put, get or first")
	clients := flag.Int("clients", 1, "requests under way")
	batch := flag.Int("batch", 1, "puts in one transaction")
	seconds := flag.Float64("seconds", 6, "measured time")
	pid := flag.Int("pid", 0, "the process that `first` kills")
	flag.Parse()
	found := strings.Split(*endpoints, ",")
	if *kind == "first" {
		fmt.Printf("{\"failover_ms\": %.1f}\n", milliseconds(first(found, *pid)))
		return
	}
	do := map[string]request{"put": put, "get": get}[*kind]
	if *batch > 1 {
		do = several(*batch)
	}
	times, elapsed := load(found, *clients, *seconds, do)
	sort.Slice(times, func(a, b int) bool { return times[a] < times[b] })
	json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"ops_s":  float64(int(float64(len(times)**batch) / elapsed.Seconds())),
		"p50_ms": milliseconds(times[len(times)/2]),
		"p99_ms": milliseconds(times[len(times)*99/100]),
	})
}
