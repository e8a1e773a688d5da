// Package soak is the fault suite: it runs Posthorn as its users do, breaks what
// can break around it, and compares what an independent receiver saw with what
// the database says.
//
//	producers ──▶ proxy ──▶ PostgreSQL ◀── proxy ◀── posthorn serve (3 processes)
//	    │                       ▲                            │ POST
//	    │                       │ at the end                 ▼
//	    └── their record ──▶ Judge(History) ◀── journal ── receiver
//
// Posthorn is a black box here: the binary, the SQL contract, the REST API and,
// for the comparison, its tables. Nothing of its code is imported.
//
//	plan.go        the seed becomes the faults and what the producers do
//	run.go         starts everything, lets it run, waits until all is quiet, reads
//	faults.go      carries the faults out
//	proxy.go       the TCP proxy that freezes, cuts, half-closes and delays
//	node.go        a posthorn serve that is killed, stopped and started again
//	producer.go    transactions with business rows and outbox rows
//	receiver.go    receives, verifies, keeps the journal, and misbehaves
//	monitor.go     looks at states and the ledger while all this happens
//	tables.go      reads the tables at the end
//	verdict.go     Judge: a pure function from the history to the violations
//
// The same seed gives the same faults at the same times and the same
// transactions. What the machine makes of them differs from run to run.
package soak
