package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Set by the linker: -X main.version=1.2.3 -X main.commit=abc.
var version, commit string

// build says what this binary was built from.
type build struct {
	Version, Commit string
}

// versionOf is what the linker was told, or else what the go command recorded.
func versionOf() build {
	b := build{Version: version, Commit: commit}
	info, ok := debug.ReadBuildInfo()
	if ok && b.Version == "" && info.Main.Version != "(devel)" {
		b.Version = info.Main.Version
	}
	if ok && b.Commit == "" {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				b.Commit = setting.Value
			}
		}
	}
	if b.Version == "" {
		b.Version = "dev"
	}
	if b.Commit == "" {
		b.Commit = "unknown"
	}
	return b
}

// versionCommand is posthorn version.
type versionCommand struct{}

// Run implements the command.
func (versionCommand) Run(s *streams) error {
	b := versionOf()
	_, err := fmt.Fprintf(s.out, "posthorn %s\ncommit %s\n%s %s/%s\n",
		b.Version, b.Commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
