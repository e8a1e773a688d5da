package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// healthCommand is posthorn health: the check of a container, which has no curl.
type healthCommand struct {
	Addr    string        `env:"POSTHORN_ADDR" default:":8080" help:"Address that the service listens at."`
	Timeout time.Duration `default:"3s" help:"How long to wait for the answer."`
}

// Run implements the command.
func (c *healthCommand) Run(ctx context.Context, s *streams) error {
	host, port, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return fmt.Errorf("POSTHORN_ADDR: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	url := "http://" + net.JoinHostPort(reachable(host), port) + "/readyz"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	// Through no proxy, whatever the environment says: it is this machine.
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	_, err = fmt.Fprintln(s.out, "ready")
	return err
}
