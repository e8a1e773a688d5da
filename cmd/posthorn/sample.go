package main

import (
	"context"
	"errors"
	"time"

	"github.com/posthorn/posthorn/internal/sample"
)

// sampleShopCommand is posthorn sample-shop: the shop in a container of its own.
type sampleShopCommand struct {
	databaseFlags

	Addr     string        `default:":8081" help:"Address that the shop listens at."`
	Interval time.Duration `default:"2s" help:"Time from one order to the next."`
}

// Run implements the command.
func (c *sampleShopCommand) Run(ctx context.Context, s *streams) error {
	url, err := c.require()
	if err != nil {
		return err
	}
	t, stop, err := startTelemetry(ctx, s, "")
	if err != nil {
		return err
	}
	defer stop()
	return sample.RunShop(ctx, sample.ShopConfig{DatabaseURL: url, Addr: c.Addr, Interval: c.Interval, Logger: t.Logger()})
}

// sampleSubscriberCommand is posthorn sample-subscriber.
type sampleSubscriberCommand struct {
	Addr        string `default:":8082" help:"Address that the subscriber listens at."`
	PosthornURL string `name:"posthorn-url" default:"http://localhost:8080" help:"Where Posthorn's API is."`
	PublicURL   string `name:"public-url" placeholder:"URL" help:"Where Posthorn reaches the subscriber. Default: http://localhost and its port."`
	OperatorKey secret `env:"POSTHORN_OPERATOR_KEY" placeholder:"KEY" help:"API key to register with. Use the variable."`
}

// Run implements the command.
func (c *sampleSubscriberCommand) Run(ctx context.Context, s *streams) error {
	if c.OperatorKey == "" {
		return errors.New("POSTHORN_OPERATOR_KEY is not set: the subscriber registers its endpoint with it")
	}
	t, stop, err := startTelemetry(ctx, s, "")
	if err != nil {
		return err
	}
	defer stop()
	return sample.RunSubscriber(ctx, sample.SubscriberConfig{
		Addr: c.Addr, PosthornURL: c.PosthornURL, PublicURL: c.PublicURL,
		OperatorKey: string(c.OperatorKey), Output: s.out, Logger: t.Logger(),
	})
}
