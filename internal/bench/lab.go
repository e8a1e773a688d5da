package bench

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/posthorn/posthorn/internal/netguard"
	"github.com/posthorn/posthorn/subscriptions"
)

// lab is a fresh database with Posthorn's schema, and a sender once there is one.
// Who makes a lab must close it.
type lab struct {
	suite  *suite
	url    string
	pool   *pgxpool.Pool // the benchmark's own connections
	store  *subscriptions.Store
	sender *part // nil before startSender
	drop   func() error
}

// labConns is how many connections the benchmark itself uses at most.
const labConns = 20

// loopback lets the receivers of a benchmark be called: they are on this machine.
var loopback = netguard.Policy{AllowHTTP: true, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

// newLab makes the database. Nothing is sent before startSender.
func newLab(ctx context.Context, s *suite) (*lab, error) {
	url, drop, err := s.server.newDatabase(ctx)
	l := &lab{suite: s, url: url, drop: drop}
	if err == nil {
		err = l.open(ctx)
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// newSendingLab makes a lab with a sender that works.
func newSendingLab(ctx context.Context, s *suite) (*lab, error) {
	l, err := newLab(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := l.startSender(ctx); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *lab) open(ctx context.Context) error {
	config, err := pgxpool.ParseConfig(l.url)
	if err != nil {
		return errURL
	}
	config.MaxConns = labConns
	if l.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return err
	}
	keyset, err := subscriptions.KeptKeyset(ctx, l.pool) // as the sender will find it
	if err != nil {
		return err
	}
	keys, err := subscriptions.NewKeyring(keyset)
	if err != nil {
		return err
	}
	l.store = subscriptions.NewStore(l.pool, keys, loopback)
	return nil
}

// close ends the sender and throws the database away.
func (l *lab) close() {
	l.stopSender()
	if l.pool != nil {
		l.pool.Close()
	}
	if l.drop == nil {
		return
	}
	if err := l.drop(); err != nil {
		l.suite.say("the database could not be cleared away: %v", err)
	}
}

// meter reads the CPU time of the lab's sender, the database and the receiver.
func (l *lab) meter() meter {
	return meter{sender: l.sender.cmd.Process.Pid, postmaster: l.suite.server.postmaster, receiver: l.suite.receiver.cmd.Process.Pid}
}

// subscribersAtOnce is how many endpoints are made side by side.
const subscribersAtOnce = 8

// subscribe makes tenants, named name-0, name-1 and so on, each with so many
// endpoints at the receiver's path. maxInFlight 0 means the default.
func (l *lab) subscribe(ctx context.Context, name string, tenants, endpoints int, path string, maxInFlight int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(subscribersAtOnce)
	for i := range tenants * endpoints {
		group.Go(func() error {
			_, _, err := l.store.Create(ctx, subscriptions.Draft{
				TenantID: tenantName(name, i/endpoints), URL: l.suite.receiver.url + path,
				EventTypes: []string{"*"}, MaxInFlight: maxInFlight,
			})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("make endpoints: %w", err)
	}
	return nil
}

func tenantName(name string, i int) string { return fmt.Sprintf("%s-%d", name, i) }
