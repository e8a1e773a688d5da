package soak

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// carryOut runs the plan's faults at their times and returns when the last is over.
func (r *run) carryOut(ctx context.Context, begin time.Time) {
	var all sync.WaitGroup
	for _, f := range r.plan.Service {
		all.Go(func() {
			pause(ctx, time.Until(begin.Add(f.At)))
			r.breakService(ctx, f)
		})
	}
	all.Go(func() { // one after the other: a receiver has one way to misbehave at a time
		for _, f := range r.plan.Receivers {
			pause(ctx, time.Until(begin.Add(f.At)))
			r.breakReceivers(ctx, f)
		}
	})
	all.Wait()
}

// breakService carries out one fault of processes, database or network, and sees to
// it that everything works again.
func (r *run) breakService(ctx context.Context, f Fault) {
	n := r.nodes[f.pick(len(r.nodes))]
	switch f.Kind {
	case FaultKill:
		n.turn.Lock()
		defer n.turn.Unlock()
		r.during(f, n.name, n.life.Load().kill)
		pause(ctx, f.For)
		r.report(n.start(ctx))
	case FaultRolling:
		for _, n := range r.nodes {
			r.renew(ctx, f, n)
		}
	case FaultStop:
		n.turn.Lock()
		defer n.turn.Unlock()
		l := n.life.Load()
		r.during(f, n.name, func() {
			l.signal(syscall.SIGSTOP)
			pause(ctx, f.For)
			l.signal(syscall.SIGCONT)
		})
	case FaultDatabase:
		r.during(f, "", func() { r.restartDatabase(ctx, f.For) })
	case FaultTerminate:
		r.during(f, "", func() { r.terminate(ctx, f) })
	default:
		r.breakNetwork(ctx, f)
	}
}

// renew ends one process in good order and starts it anew.
func (r *run) renew(ctx context.Context, f Fault, n *node) {
	n.turn.Lock()
	defer n.turn.Unlock()
	r.during(f, n.name, func() {
		if l := n.life.Load(); !l.terminate() {
			r.complain("%s did not end within %s of SIGTERM; it printed:\n%s", n.name, endPatience, l.log)
		}
		r.report(n.start(ctx))
	})
}

// breakNetwork spoils the network of one process, or of the producers.
func (r *run) breakNetwork(ctx context.Context, f Fault) {
	i := f.pick(len(r.proxies))
	p := r.proxies[i]
	p.turn.Lock()
	defer p.turn.Unlock()
	name := "producers"
	if i < len(r.nodes) {
		name = r.nodes[i].name
	}
	r.during(f, name, func() {
		switch f.Kind {
		case FaultFreeze:
			p.freeze(ctx, f.For)
		case FaultCut:
			p.cut(ctx, f.For)
		case FaultHalfOpen:
			p.halfClose(ctx, f.For)
		case FaultDelay:
			p.slow(ctx, time.Duration(20+f.Draw>>8%80)*time.Millisecond, f.For)
		}
	})
}

// restartDatabase ends PostgreSQL as a crash does and lets it recover.
func (r *run) restartDatabase(ctx context.Context, away time.Duration) {
	r.databaseTurn.Lock()
	defer r.databaseTurn.Unlock()
	r.report(r.database.Kill())
	pause(ctx, away)
	// The run's end does not spare PostgreSQL its start: it is stopped afterwards.
	r.report(r.database.Restart(context.WithoutCancel(ctx)))
}

const terminateSQL = `SELECT count(pg_terminate_backend(pid)) FROM (
	SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'posthorn%'
	ORDER BY md5(pid::text || $1) LIMIT $2) AS chosen`

// terminate ends some of posthorn's sessions.
func (r *run) terminate(ctx context.Context, f Fault) {
	ctx, cancel := context.WithTimeout(ctx, apiPatience)
	defer cancel()
	// Another fault may just have ended the server.
	for ctx.Err() == nil {
		conn, err := pgx.Connect(ctx, r.database.URL())
		if err == nil {
			_, err = conn.Exec(ctx, terminateSQL, fmt.Sprint(f.Draw), 1+f.pick(8))
			_ = conn.Close(ctx) // nothing is open on it
		}
		if err == nil {
			return
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// breakReceivers lets one endpoint's receiver misbehave, now and then all of them;
// or pauses the endpoint.
func (r *run) breakReceivers(ctx context.Context, f Fault) {
	chosen := []int{f.pick(len(r.endpoints))}
	if f.Kind == FaultPause {
		r.pauseEndpoint(ctx, f, r.endpoints[chosen[0]].ID)
		return
	}
	if f.Draw>>32%4 == 0 {
		chosen = nil
		for i := range r.endpoints {
			chosen = append(chosen, i)
		}
	}
	r.during(f, fmt.Sprintf("%d endpoints", len(chosen)), func() {
		for _, i := range chosen {
			r.receiver.behave(i, f.Kind)
		}
		pause(ctx, f.For)
		for _, i := range chosen {
			r.receiver.behave(i, "")
		}
	})
}

// pauseEndpoint pauses and resumes the endpoint by the API, if that can be done.
func (r *run) pauseEndpoint(ctx context.Context, f Fault, id string) {
	if !r.canPause {
		return
	}
	r.during(f, id, func() {
		_, err := r.client.turn(ctx, id, "pause")
		r.report(err)
		pause(ctx, f.For)
		_, err = r.client.turn(context.WithoutCancel(ctx), id, "resume")
		r.report(err)
	})
}

// during notes when the fault was at work.
func (r *run) during(f Fault, detail string, work func()) {
	w := Window{Kind: f.Kind, Detail: detail, Start: time.Now()}
	work()
	w.End = time.Now()
	r.mu.Lock()
	r.windows = append(r.windows, w)
	r.mu.Unlock()
	r.logf("%s  %-10s %-12s %s", clock(w.Start), w.Kind, w.Detail, w.End.Sub(w.Start).Round(time.Millisecond))
}

// report makes an error of the harness part of the verdict.
func (r *run) report(err error) {
	if err != nil {
		r.complain("%v", err)
	}
}

// complain notes what a process must not do.
func (r *run) complain(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.complaints = append(r.complaints, fmt.Sprintf(format, args...))
}
