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
// # Who is authoritative
//
// The tables of the schema posthorn are the truth, River's rows are work to do.
// An unfinished delivery belongs to exactly one River job, the one its job_id
// names; a held one to none. deliveries.attempts fences results: one counts only
// if it is of the attempt that comes next.
//
//	          ┌─────────┐  2xx    ┌───────────┐
//	relay ───▶│ pending │────────▶│ delivered │◀─┐
//	          └────┬────┘         └───────────┘  │ 2xx
//	    not 2xx    │    ┌──────────┐             │
//	               ├───▶│ retrying │─────────────┘
//	               │    └──┬────▲──┘
//	    the last   │       │    │ retry or replay by hand
//	               ▼       ▼    │
//	             ┌───────────────┐      endpoint deleted   ┌───────────┐
//	             │     dead      │      ──────────────────▶│ cancelled │
//	             └───────────────┘      (pending, retrying)   └───────────┘
//
// A delivery of a deleted endpoint is cancelled when its turn comes.
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
//   - reaper-uncommitted: rolled back; the next reaper does it.
//   - reaper-committed: the jobs are available to every node.
//   - sweep-uncommitted: rolled back; the next sweep does it.
//   - sweep-committed: the deliveries have new jobs.
//   - audit-uncommitted: rolled back; the next audit does it.
//   - audit-committed: the minutes are accounted for; the next audit goes on.
//   - redeliver-uncommitted: rolled back; the caller got no answer.
//   - redeliver-committed: the job exists; the caller got no answer and may ask
//     again, which finds the retry in progress.
//
// No HTTP request is made while a transaction is open.
package dispatcher
