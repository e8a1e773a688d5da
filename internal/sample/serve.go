package sample

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// shutdownTimeout bounds what is done after the end has been asked for: running
// requests, and the removal of a registered endpoint.
const shutdownTimeout = 5 * time.Second

// serve listens at addr, serves handler and runs work, which gets the address
// really listened at. It ends when work does, when ctx does, which ends work's
// context too, or when the listener fails. The listener outlives work, so that
// work can deregister it first.
func serve(ctx context.Context, addr string, handler http.Handler, work func(ctx context.Context, at string) error) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return err // it names the address
	}
	server := newServer(handler)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		served <- server.Serve(listener)
		cancel() // without a listener there is nothing to work for
	}()
	workErr := work(ctx, listener.Addr().String())

	bounded, stop := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer stop()
	shutdownErr := server.Shutdown(bounded)
	serveErr := <-served
	if errors.Is(serveErr, http.ErrServerClosed) {
		serveErr = nil
	}
	if err := errors.Join(workErr, serveErr, shutdownErr); err != nil {
		return fmt.Errorf("serve %s: %w", addr, err)
	}
	return nil
}

// newServer bounds what a slow or hostile client can take up.
func newServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
}
