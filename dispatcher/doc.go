// Package dispatcher is the heart: it turns committed events into signed POSTs,
// and what came of them into records.
//
// # One event
//
//	outbox_pending ──relay──▶ deliveries + River jobs ──hand-off──▶ lanes ──senders──▶ receivers
//	                                  ▲        │                                  │
//	                                  │     worker (a due retry, a dead           ▼
//	                                  │     node's chunk, a full lane)        recorder
//	                                  └────────────── retries ───────────────────┘
//
// The relay claims committed events, matches them, and in one transaction writes
// a delivery for each match, a routing record for each event, and a River job
// for each chunk of up to 100 deliveries of one endpoint. The job is scheduled a
// lease ahead: it is the safety net. The chunk itself goes to the senders at
// once. The recorder commits results many at a time and deletes finished jobs.
// If nobody does, because the process died, the job becomes due and any node's
// River worker takes the chunk over, the same way.
//
// What can't be sent at once waits in its endpoint's backlog: one River job that
// owns all of it, in a queue of its own. Whichever node fetches that job is the
// backlog's owner and feeds it into the endpoint's lane, a piece at a time. So a
// slow, failing, held back or flooded endpoint costs the others nothing, and one
// process at a time decides what an ordering key's next delivery is.
//
//	                 breaker open, slow, full, in order
//	relay, worker, recorder ──────────▶ backlog ──owner──▶ lane
//
// # Who is authoritative
//
// The tables of the schema posthorn are the truth, River's rows are work to do.
// An unfinished delivery belongs to exactly one River job, the one its job_id
// names; a held one to none. deliveries.attempts fences results: one counts only
// if it is of the attempt that comes next. What is known of an endpoint's health
// stands in endpoint_health, for all nodes; each looks twice a second.
//
//	          ┌─────────┐  2xx    ┌───────────┐
//	relay ───▶│ pending │────────▶│ delivered │◀─┐
//	   │      └────┬────┘         └───────────┘  │ 2xx
//	   │ not 2xx   │    ┌──────────┐             │
//	   │           ├───▶│ retrying │─────────────┘
//	   │           │    └──┬────▲──┘
//	   │ the last  │       │    │ retry or replay by hand
//	   │           ▼       ▼    │
//	   │         ┌───────────────┐      endpoint deleted   ┌───────────┐
//	   │         │     dead      │      ──────────────────▶│ cancelled │
//	   │         └───────────────┘  (pending, retrying, held)└───────────┘
//	   │  ┌──────┐
//	   └─▶│ held │◀──▶ pending, retrying: the endpoint is paused or disabled, and resumed
//	      └──────┘
//
// After a change of an endpoint's status the align job brings its deliveries into
// line; those in hand are settled as their turn comes.
//
// # Commit points
//
// The process may be killed at any moment. What follows from each:
//
//   - relay-claimed: the transaction is rolled back; the events are pending again.
//   - relay-committed: the deliveries are written, nothing is sent. Their jobs
//     belong to the dead node; another node's reaper releases them within about
//     a second, or else the lease ends.
//   - sender-before-post: the same.
//   - sender-after-post: the receiver has the event and no record says so. It is
//     sent again with the same webhook-id: at least once.
//   - recorder-before, recorder-uncommitted: the same for a whole batch of results.
//   - recorder-committed: nothing is left to do for these deliveries.
//   - worker-fetched: River's job is running and its node is dead: the reaper
//     releases it.
//   - worker-handed-over: the same; the job may not be snoozed yet.
//   - split-uncommitted: rolled back; the dead node's parcel is split by another.
//   - split-committed: each endpoint's part has a job of its own; the parcel's is
//     released by the reaper and finds nothing.
//   - backlog-fetched: River's job of a backlog is running and its node is dead:
//     the reaper releases it.
//   - backlog-handed-over: a piece of the backlog may have been sent; its
//     deliveries belong to the backlog's job still, which the reaper releases. The
//     next owner begins with the first unfinished delivery of each ordering key.
//   - reaper-uncommitted: rolled back; the next reaper does it.
//   - reaper-committed: the jobs are available to every node.
//   - sweep-uncommitted: rolled back; the next sweep does it.
//   - sweep-committed: the deliveries have new jobs.
//   - audit-uncommitted: rolled back; the next audit does it.
//   - audit-committed: the minutes are accounted for; the next audit goes on.
//   - trim-staged: copies lie beside a day that is past the retention; the next run
//     drops them and begins anew.
//   - trim-uncommitted: rolled back; the same.
//   - trim-committed: what is needed of the day is in place of it; the next run drops
//     the day's own tables, which are partitions no longer.
//   - redeliver-uncommitted: rolled back; the caller got no answer.
//   - redeliver-committed: the job exists; the caller got no answer and may ask
//     again, which finds the retry in progress.
//
// No HTTP request is made while a transaction is open.
package dispatcher
