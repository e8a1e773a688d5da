package main

import (
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
)

// guideURLs are where the samples are; empty without them.
type guideURLs struct {
	shop, subscriber string
}

// printGuide prints what is where and what to try. Programs read the line
// "operator key: <key>".
func (r devRun) printGuide(w io.Writer, urls guideURLs) error {
	var b strings.Builder
	row := func(name, value, note string) {
		b.WriteString(strings.TrimRight(fmt.Sprintf("  %-18s %-28s %s", name, value, note), " ") + "\n")
	}
	b.WriteString("\nPosthorn is running.\n\n")
	row("API", r.apiURL, "")
	if urls.shop != "" {
		row("sample shop", urls.shop, "commits an order every 2 s, and rolls every fifth one back")
		row("sample subscriber", urls.subscriber, "verifies and prints what it receives")
	}
	switch {
	case r.database.private == nil:
		row("database", "of DATABASE_URL", "")
	case r.database.kept:
		row("database", r.database.private.Dir(), "private; kept")
	default:
		row("database", r.database.private.Dir(), "private; removed at the end")
	}
	row("retries", "after "+r.schedule.String(), "--retry-schedule says otherwise")
	fmt.Fprintf(&b, "\noperator key: %s\n", r.key)

	step := func(title string, lines ...string) {
		fmt.Fprintf(&b, "\n%s\n", title)
		for _, line := range lines {
			fmt.Fprintf(&b, "  %s\n", line)
		}
	}
	step("Publish an event, in a transaction of your own:", r.psql()+` -c \`,
		`  "INSERT INTO posthorn.outbox (event_type, payload) VALUES ('order.paid', '{\"order_id\": 17}')"`)
	if urls.subscriber != "" {
		step("Break the subscriber, see the retries and the dead letters, repair it:",
			fmt.Sprintf("curl -X POST '%s/break?status=500'", urls.subscriber),
			fmt.Sprintf("curl -X POST %s/repair", urls.subscriber))
	}
	step("Read the log:", "KEY="+shellQuote(r.key),
		fmt.Sprintf(`curl -H "Authorization: Bearer $KEY" '%s/v1/deliveries?limit=3'`, r.apiURL),
		fmt.Sprintf(`curl -H "Authorization: Bearer $KEY" '%s/v1/dead-letters?limit=3'`, r.apiURL))
	b.WriteString("\nCtrl-C ends all of it.\n\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// psql is the start of a command line on the database.
func (r devRun) psql() string {
	if r.database.private == nil {
		return `psql "$DATABASE_URL"` // its password is not ours to print
	}
	program := "psql"
	if _, err := exec.LookPath(program); err != nil {
		// Downloaded binaries come without; Debian's have it off the PATH.
		if beside := filepath.Join(r.database.private.Bin(), program); isExecutable(beside) {
			program = shellQuote(beside)
		}
	}
	return program + " " + shellQuote(r.database.url)
}

func isExecutable(path string) bool {
	_, err := exec.LookPath(path)
	return err == nil
}

// shellQuote makes one word of the text for any shell.
func shellQuote(text string) string {
	if text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:", r)
	}) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
