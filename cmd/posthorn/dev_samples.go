package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/posthorn/posthorn/internal/sample"
	"github.com/posthorn/posthorn/subscriptions"
)

// The samples listen here or at the next free ports.
const (
	shopAddr       = "127.0.0.1:8081"
	subscriberAddr = "127.0.0.1:8082"
)

// present prints what is where and runs the samples until ctx is done.
func (r devRun) present(ctx context.Context, s *streams, logger *slog.Logger) error {
	if !r.sample {
		if err := r.printGuide(s.out, guideURLs{}); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}
	pool, err := pgxpool.New(ctx, r.database.url)
	if err != nil {
		return fmt.Errorf("sample shop: %w", err)
	}
	defer pool.Close()
	shop, err := sample.NewShop(ctx, pool, sample.ShopConfig{Logger: logger})
	if err != nil {
		return unlessDone(ctx, err)
	}
	shopAt, err := listenNear(ctx, shopAddr)
	if err != nil {
		return unlessDone(ctx, err)
	}
	defer shopAt.Close() // for the returns before it is served
	subscriberAt, err := listenNear(ctx, subscriberAddr)
	if err != nil {
		return unlessDone(ctx, err)
	}
	defer subscriberAt.Close()
	subscriber := sample.NewSubscriber(sample.SubscriberConfig{
		PosthornURL: r.apiURL, OperatorKey: r.key, Output: s.out, Logger: logger,
	})
	urls := guideURLs{shop: baseURL(shopAt.Addr()), subscriber: baseURL(subscriberAt.Addr())}

	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	var servers errgroup.Group
	servers.Go(func() error { return serveHTTP(serving, newHTTPServer(shop.Handler()), shopAt) })
	servers.Go(func() error { return serveHTTP(serving, newHTTPServer(subscriber), subscriberAt) })
	err = r.trade(ctx, s, shop, subscriber, urls)
	stop()
	if serverErr := servers.Wait(); err == nil {
		err = serverErr
	}
	return err
}

// deregisterTimeout bounds the removal of the subscriber's endpoint at the end.
const deregisterTimeout = 5 * time.Second

// trade registers the subscriber and lets the shop place orders until ctx is done.
func (r devRun) trade(ctx context.Context, s *streams, shop *sample.Shop, subscriber *sample.Subscriber, urls guideURLs) error {
	if err := r.forgetEarlier(ctx, urls.subscriber+sample.ReceivePath); err != nil {
		return unlessDone(ctx, err)
	}
	registration, err := subscriber.Register(ctx, urls.subscriber)
	if err != nil {
		return unlessDone(ctx, err)
	}
	// Before the shop's first order, so that the guide stands at the top.
	err = r.printGuide(s.out, urls)
	if err == nil {
		shop.Run(ctx)
	}
	if !r.database.lasting() {
		return err // the endpoint goes with the database
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), deregisterTimeout)
	defer cancel()
	if failed := registration.Deregister(bounded); err == nil {
		err = failed
	}
	return err
}

// forgetEarlier removes endpoints of the address that the subscriber has just
// taken: they are of an earlier run on this database that was killed, and signed
// with secrets that nobody knows any more.
func (r devRun) forgetEarlier(ctx context.Context, url string) error {
	const page = 100
	var before subscriptions.EndpointID
	for {
		list, err := r.endpoints.List(ctx, subscriptions.Scope{}, before, page)
		if err != nil {
			return err
		}
		for _, e := range list {
			before = e.ID
			if e.URL != url {
				continue
			}
			if err := r.endpoints.Delete(ctx, subscriptions.Scope{}, e.ID); err != nil {
				return err
			}
		}
		if len(list) < page {
			return nil
		}
	}
}

// lasting reports whether the database outlives the run.
func (d devDatabase) lasting() bool { return d.private == nil || d.kept }

// unlessDone drops an error that the end itself has caused: the service's own
// error, if there is one, says why.
func unlessDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
