// Package devdb runs a private PostgreSQL server: for "posthorn dev", for the
// benchmarks and for the tests. Production uses a server of its own, named by
// DATABASE_URL, and never comes here.
//
// Start does four things, one file each:
//
//	binaries.go   find PostgreSQL, or get it (download.go, apt.go)
//	home.go       make or reuse the directory, and lock it
//	cluster.go    initdb, pg_hba.conf, settings
//	server.go     start the server, stop it, crash it on purpose
//
// What holds for every server:
//
//   - It listens on 127.0.0.1 only and asks for a random password, so that other
//     users of the machine cannot become its superuser.
//   - It ends with the process that started it. On Linux the kernel sees to that
//     even when the process is killed; elsewhere the next Start does.
//   - It never runs as root, which PostgreSQL refuses: started by root, it runs
//     as the account postgres or nobody.
//   - Only directories that devdb made or found empty are ever written to or
//     removed; a marker file tells them.
//
// As a tool for development and tests, devdb reads the environment itself: PG_BIN
// and PATH, for finding binaries, and what the download clients need.
package devdb
