// Command posthorn is the whole of Posthorn in one binary: the service, the tools
// of its operators, and posthorn dev, which needs nothing but itself.
//
// It is the only place where the packages are wired together, and the only one
// that reads Posthorn's variables from the environment:
//
//	main.go          the commands, errors, signals
//	environment.go   which variables there are; an unknown one stops the start
//	config.go        the flags of serve and dev, and what they accept
//	service.go       the wiring: API and dispatcher on one database
//	dev.go …         one file for each command
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// cli is the command line, as kong reads it.
type cli struct {
	//lint:ignore SA5008 kong reads every set
	Dev devCommand `cmd:"" set:"default_schedule=1s,2s,4s" set:"default_breaker=50" help:"Try Posthorn: a private PostgreSQL, the service, a sample shop and a sample subscriber."`
	//lint:ignore SA5008 kong reads every set
	Serve   serveCommand   `cmd:"" set:"default_schedule=5s,5m,30m,2h,5h,10h,14h,20h,24h" set:"default_breaker=10" help:"Run the service."`
	Migrate migrateCommand `cmd:"" help:"Change the database's schema."`
	Keys    keysCommand    `cmd:"" help:"Make, list and revoke API keys."`
	Keyset  keysetCommand  `cmd:"" help:"Make the keyset that encrypts secrets at rest."`
	Doctor  doctorCommand  `cmd:"" help:"Look for what is wrong and say what to do; exit status 1 when something is."`
	Bench   benchCommand   `cmd:"" help:"Measure this machine: Posthorn beside bare net/http."`
	Version versionCommand `cmd:"" help:"Print the version, the commit and the version of Go."`

	Health           healthCommand           `cmd:"" hidden:"" help:"Ask the service on this machine whether it is ready."`
	SampleShop       sampleShopCommand       `cmd:"" hidden:"" help:"Run the sample shop alone."`
	SampleSubscriber sampleSubscriberCommand `cmd:"" hidden:"" help:"Run the sample subscriber alone."`
}

const description = `Posthorn sends webhooks for what your transactions commit, and for nothing else.

Try it: posthorn dev`

// streams are where a command reads and writes: results go to out, everything
// else to err.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// The exit statuses.
const (
	exitFailure = 1
	exitUsage   = 2 // the command line or the environment is wrong
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the program in good order; from then on signals do what
	// they do by default, so that the second one kills.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], &streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}))
}

// run executes one command line and returns the exit status.
func run(ctx context.Context, args []string, s *streams) int {
	if len(args) == 0 {
		args = []string{"--help"}
	}
	unsetEmpty()
	parser, err := kong.New(&cli{},
		kong.Name("posthorn"), kong.Description(description),
		kong.Writers(s.out, s.err),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(s),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		return fail(s, err, exitFailure)
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return fail(s, err, exitUsage)
	}
	if parsed.Command() != "version" { // which helps to find out why nothing else works
		if err := checkEnvironment(parser.Model); err != nil {
			return fail(s, err, exitUsage)
		}
	}
	if err := parsed.Run(); err != nil {
		return fail(s, err, exitFailure)
	}
	return 0
}

func fail(s *streams, err error, status int) int {
	fmt.Fprintf(s.err, "posthorn: %v\n", err)
	return status
}
