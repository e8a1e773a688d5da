package devdb

import (
	"log/slog"
	"time"
)

// Config says what kind of server Start starts. The zero value is a temporary
// server for tests: on a free port, without protection against power failure.
type Config struct {
	// Dir is the directory of the cluster, its password and its log. It must be
	// empty, absent, or one that devdb made before. Empty string: a temporary
	// directory that Stop removes. Default: empty string.
	Dir string

	// InMemory puts a temporary directory into memory (Linux's /dev/shm) where that
	// has 4 GiB to spare, and else on disk as usual. It makes databases that are
	// created and dropped all the time several times faster. Default: false.
	InMemory bool

	// BinDir is the directory of the programs postgres and initdb. When set,
	// nowhere else is searched. Empty string: the environment variable PG_BIN,
	// and without that a search. Default: empty string.
	BinDir string

	// CacheDir keeps downloaded PostgreSQL binaries. Empty string:
	// /var/cache/posthorn for root, posthorn in the user's cache directory for
	// others. Default: empty string.
	CacheDir string

	// Port is the TCP port on 127.0.0.1. 0: a free one. Default: 0.
	Port int

	// Durable makes a commit survive a power failure, as in production. False is
	// for tests only: fsync and synchronous_commit are off. Default: false.
	Durable bool

	// Settings are added to postgresql.conf, over those devdb chooses; the
	// address and the port cannot be changed so. Nil: none. Default: nil.
	Settings map[string]string

	// StartTimeout bounds the time from the server's start, recovery after a crash
	// included, until it takes connections. 0: the default. Default: 60 s.
	StartTimeout time.Duration

	// Logger hears of downloads, installations and of a server that ends without
	// having been asked to. Nil: nothing is logged. Default: nil.
	Logger *slog.Logger
}

// defaultStartTimeout is Config.StartTimeout's default.
const defaultStartTimeout = 60 * time.Second

// withDefaults returns the configuration with every default filled in.
func (c Config) withDefaults() Config {
	if c.StartTimeout == 0 {
		c.StartTimeout = defaultStartTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
