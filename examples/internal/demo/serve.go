package demo

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// grace is how long running requests may take to finish when the server stops.
const grace = 10 * time.Second

// Serve answers until ctx ends, then lets running requests finish, for ten seconds at most, and closes the listener.
// No client can hold a connection for ever: each step of a request has a timeout.
func Serve(ctx context.Context, listener net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	failed := make(chan error, 1)
	go func() {
		defer close(failed)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := server.Shutdown(stopping)
	if err != nil {
		err = errors.Join(err, server.Close())
	}
	return errors.Join(err, <-failed)
}
