package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/posthorn/posthorn/dispatcher"
	"github.com/posthorn/posthorn/internal/volume"
	"github.com/posthorn/posthorn/outbox"
	"github.com/posthorn/posthorn/subscriptions"
)

const (
	listPage  = 101 // of the API: a hundred, and one that tells whether there are more
	listTimes = 3   // the first, and the next two
)

// list is one of the API's, with a filter.
type list struct {
	name string
	ask  func(ctx context.Context) error
}

// lists are all that the API has, with filters that find all, little and nothing.
func (l *lab) lists() []list {
	log, reader := dispatcher.NewLog(l.pool), outbox.NewReader(l.pool)
	deliveries := func(name string, f dispatcher.DeliveryFilter) list {
		return list{"deliveries" + name, func(ctx context.Context) error { _, _, err := log.Deliveries(ctx, f, listPage); return err }}
	}
	events := func(name string, f outbox.Filter) list {
		return list{"events" + name, func(ctx context.Context) error { _, _, err := reader.List(ctx, f, listPage); return err }}
	}
	deadLetters := func(name string, f dispatcher.DeadLetterFilter) list {
		return list{"dead letters" + name, func(ctx context.Context) error { _, _, err := log.DeadLetters(ctx, f, listPage); return err }}
	}
	const never = "never.occurs"
	return []list{
		deliveries("", dispatcher.DeliveryFilter{}),
		deliveries(", delivered", dispatcher.DeliveryFilter{Status: dispatcher.Delivered}),
		deliveries(", dead", dispatcher.DeliveryFilter{Status: dispatcher.Dead}),
		deliveries(", pending", dispatcher.DeliveryFilter{Status: dispatcher.Pending}),
		deliveries(", answered 503", dispatcher.DeliveryFilter{ResponseStatus: 503}),
		deliveries(", unknown type", dispatcher.DeliveryFilter{EventType: never}),
		deliveries(", large tenant", dispatcher.DeliveryFilter{TenantID: volume.Big}),
		deliveries(", large tenant, answered 503", dispatcher.DeliveryFilter{TenantID: volume.Big, ResponseStatus: 503}),
		deliveries(", small tenant", dispatcher.DeliveryFilter{TenantID: volume.Small}),
		deliveries(", unknown tenant", dispatcher.DeliveryFilter{TenantID: "nobody"}),
		events("", outbox.Filter{}),
		events(", unknown type", outbox.Filter{EventType: never}),
		events(", large tenant", outbox.Filter{TenantID: volume.Big}),
		events(", large tenant, unknown type", outbox.Filter{TenantID: volume.Big, EventType: never}),
		events(", small tenant", outbox.Filter{TenantID: volume.Small}),
		deadLetters("", dispatcher.DeadLetterFilter{}),
		deadLetters(", large tenant", dispatcher.DeadLetterFilter{TenantID: volume.Big}),
		{"endpoints", func(ctx context.Context) error {
			_, err := l.store.List(ctx, subscriptions.Scope{}, subscriptions.EndpointID{}, listPage)
			return err
		}},
	}
}

// timeLists times each as its caller waits for it: first when its pages may be on the
// disk only, and then again.
func (l *lab) timeLists(ctx context.Context) ([]ListTime, error) {
	var all []ListTime
	for _, one := range l.lists() {
		t := ListTime{Name: one.name}
		for nth := range listTimes {
			begin := time.Now()
			if err := one.ask(ctx); err != nil {
				return nil, fmt.Errorf("list %s: %w", one.name, err)
			}
			took := milliseconds(time.Since(begin))
			if nth == 0 {
				t.FirstMS = took
			} else {
				t.NextMS = max(t.NextMS, took)
			}
		}
		all = append(all, t)
	}
	return all, nil
}
