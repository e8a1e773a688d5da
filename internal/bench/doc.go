// Package bench measures Posthorn beside two yardsticks, on one machine and in the
// same run: the raw ceiling of net/http, and the naive design of one River job for
// each delivery. Machines differ and are noisy, so what counts is the ratio of
// neighbours in time.
//
// Each role has a process of its own, so that CPU and memory can be told apart:
//
//	bench      publishes, asks, and is the raw client (this process)
//	sender     posthorn serve, role dispatch             sender.go
//	naive      River's workers, one job per delivery     naive.go
//	receiver   counts and times what comes               receive.go
//	database   a durable private PostgreSQL              server.go
//
// A section is one question and one file: throughput.go, latency.go, isolation.go,
// producer.go, payloads.go, backlog.go, idle.go. Each works in labs of its own, which
// are fresh databases (lab.go), and fills its part of the Report (report.go), which
// becomes a table (table.go) and a plot (plot.go).
package bench
