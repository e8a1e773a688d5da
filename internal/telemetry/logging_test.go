package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"unicode"

	"go.opentelemetry.io/otel/propagation"
)

// newLogger is a logger to a buffer, without providers.
func newLogger(t *testing.T, cfg Config) (*slog.Logger, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	cfg.LogOutput = &out
	handler, err := newLocalHandler(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return slog.New(handler), &out
}

func tracedContext(ctx context.Context) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent})
}

func TestLogLinesCarryTheTrace(t *testing.T) {
	t.Parallel()
	const ids = "trace_id=0af7651916cd43dd8448eb211c80319c span_id=b7ad6b7169203331"
	logger, out := newLogger(t, Config{})
	ctx := tracedContext(t.Context())

	logger.InfoContext(ctx, "sent", "endpoint", "ep_1")
	if !strings.Contains(out.String(), "endpoint=ep_1 "+ids) {
		t.Errorf("the line is %s", out)
	}
	out.Reset()
	logger.Info("sent")
	if strings.Contains(out.String(), "trace_id") {
		t.Errorf("without a span the line is %s", out)
	}
	out.Reset()
	logger.With("a", 1).WithGroup("g").With("b", 2).WithGroup("").InfoContext(ctx, "sent", "c", 3)
	if got := out.String(); !strings.Contains(got, "msg=sent "+ids+" a=1 g.b=2 g.c=3") {
		t.Errorf("in a group the line is %s", got)
	}
}

func TestLoggersDerivedFromOneKeepApart(t *testing.T) {
	t.Parallel()
	logger, out := newLogger(t, Config{})
	base := logger.WithGroup("g").With("a", 1)
	left, right := base.With("left", 1), base.With("right", 1)
	left.InfoContext(tracedContext(t.Context()), "x")
	if got := out.String(); !strings.Contains(got, "g.left=1") || strings.Contains(got, "right") {
		t.Errorf("left's line is %s", got)
	}
	out.Reset()
	right.InfoContext(tracedContext(t.Context()), "x")
	if got := out.String(); !strings.Contains(got, "g.right=1") || strings.Contains(got, "left") {
		t.Errorf("right's line is %s", got)
	}
}

// hostile holds what must not reach a terminal: a line of its own, ANSI
// sequences by ESC and by the C1 control, delete, reversed text, a tag.
const hostile = "a\nlevel=ERROR msg=forged\r\x1b[31m\u009b2J\x7f\u202etxt\u200b\U000e0041z"

func TestControlCharactersAreEscaped(t *testing.T) {
	t.Parallel()
	for _, format := range []Format{FormatText, FormatJSON} {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			logger, out := newLogger(t, Config{LogFormat: format})
			logger.With("with", hostile).WithGroup("group").Info(hostile,
				"value", hostile, hostile, "key", "error", errors.New(hostile), "any", struct{ S string }{hostile},
				"bytes", []byte(hostile))
			line, ended := strings.CutSuffix(out.String(), "\n")
			if !ended {
				t.Errorf("the line does not end: %q", line)
			}
			for _, r := range line {
				if unicode.In(r, unicode.Cc, unicode.Cf) {
					t.Errorf("%q is in the line %q", r, line)
				}
			}
			if format != FormatJSON {
				return
			}
			var record struct{ Msg, With string }
			if err := json.Unmarshal([]byte(line), &record); err != nil {
				t.Fatal(err)
			}
			if record.Msg != hostile || record.With != hostile {
				t.Errorf("decoded %q and %q", record.Msg, record.With)
			}
		})
	}
}

func TestOrdinaryTextIsNotEscaped(t *testing.T) {
	t.Parallel()
	logger, out := newLogger(t, Config{LogFormat: FormatJSON})
	logger.Info("Müller, 東京, 🎺")
	if !strings.Contains(out.String(), "Müller, 東京, 🎺") {
		t.Errorf("the line is %s", out)
	}
}

func TestLogLevelMayChange(t *testing.T) {
	t.Parallel()
	var level slog.LevelVar
	logger, out := newLogger(t, Config{LogLevel: &level})
	logger.Debug("one")
	level.Set(slog.LevelDebug)
	logger.Debug("two")
	if got := out.String(); strings.Contains(got, "one") || !strings.Contains(got, "two") {
		t.Errorf("the lines are %s", got)
	}
}

func FuzzEscapedLinesMeanTheSame(f *testing.F) {
	f.Add(hostile)
	f.Fuzz(func(t *testing.T, text string) {
		line, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if n, err := (escapeWriter{&out}).Write(line); err != nil || n != len(line) {
			t.Fatalf("Write: %d, %v", n, err)
		}
		var before, after string
		if err := json.Unmarshal(line, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out.Bytes(), &after); err != nil || before != after {
			t.Errorf("%q became %q: %v", before, after, err)
		}
	})
}
