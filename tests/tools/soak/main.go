// Command soak works for many tenants at once, for a long time, while connections are cut, sessions are ended and
// contexts are cancelled:
//
//	go run ./tests/tools/soak                      # ten minutes, 32 goroutines
//	go run ./tests/tools/soak -duration 1h -goroutines 64
//
// No row of another tenant may be seen and no transaction be half applied; memory, goroutines and prepared statements
// must stay flat. It prints a line every ten seconds and a report at the end, and exits with 1 if something was wrong.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	p := plan{out: os.Stderr}
	flag.DurationVar(&p.duration, "duration", 10*time.Minute, "how long to work")
	flag.IntVar(&p.goroutines, "goroutines", 32, "how many work at once")
	flag.DurationVar(&p.every, "every", 10*time.Second, "how often to measure, and to say so")
	flag.DurationVar(&p.faults, "faults", 200*time.Millisecond, "how often to cut connections or end sessions")
	flag.Parse()

	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	r, err := soak(ctx, p)
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1) //nolint:gocritic // the context ends with the process
	}
	fmt.Print(r)
	if len(r.wrong()) > 0 {
		os.Exit(1)
	}
}
