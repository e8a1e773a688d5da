package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"

	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"
)

// Format is the form of the log lines.
type Format string

// The formats.
const (
	FormatText Format = "text" // key=value, for people
	FormatJSON Format = "json" // one object a line, for programs
)

// scopeName is the instrumentation scope of exported log records.
const scopeName = "github.com/posthorn/posthorn"

// startLogs makes the logger, with an exporter if export is true.
func (t *Telemetry) startLogs(ctx context.Context, res *resource.Resource, cfg Config, export bool) error {
	local, err := newLocalHandler(cfg)
	if err != nil {
		return err
	}
	t.local = slog.New(local)
	t.logger = t.local
	if !export {
		return nil
	}
	exporter, err := autoexport.NewLogExporter(ctx)
	if err != nil {
		return fmt.Errorf("OTEL_LOGS_EXPORTER: %w", err)
	}
	provider := sdklog.NewLoggerProvider(
		sdklog.WithProcessor(sdklog.NewBatchProcessor(exporter)),
		sdklog.WithResource(res),
	)
	t.shutdowns = append(t.shutdowns, provider.Shutdown)
	exported := otelslog.NewHandler(scopeName,
		otelslog.WithLoggerProvider(provider), otelslog.WithVersion(cfg.Version))
	t.logger = slog.New(slog.NewMultiHandler(local, levelHandler{exported, logLevel(cfg)}))
	return nil
}

func logLevel(cfg Config) slog.Leveler {
	if cfg.LogLevel == nil {
		return slog.LevelInfo
	}
	return cfg.LogLevel
}

// newLocalHandler makes the handler that writes to LogOutput. What is logged
// may come from strangers, so control characters must not reach a terminal:
// slog's text handler quotes them all, its JSON handler needs escapeWriter.
func newLocalHandler(cfg Config) (slog.Handler, error) {
	var output io.Writer = os.Stderr
	if cfg.LogOutput != nil {
		output = cfg.LogOutput
	}
	options := &slog.HandlerOptions{Level: logLevel(cfg)}
	switch cfg.LogFormat {
	case FormatText, "":
		return traceHandler{root: slog.NewTextHandler(output, options)}.opened(), nil
	case FormatJSON:
		return traceHandler{root: slog.NewJSONHandler(escapeWriter{output}, options)}.opened(), nil
	}
	return nil, fmt.Errorf("unknown log format %q: it must be %s or %s", cfg.LogFormat, FormatText, FormatJSON)
}

// levelHandler refuses records below a level.
type levelHandler struct {
	slog.Handler
	level slog.Leveler
}

// Enabled reports whether records of this level are handled.
func (h levelHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= h.level.Level() && h.Handler.Enabled(ctx, level)
}

// WithAttrs returns the handler with attributes added to every record.
func (h levelHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return levelHandler{h.Handler.WithAttrs(attrs), h.level}
}

// WithGroup returns the handler with later attributes in a group.
func (h levelHandler) WithGroup(name string) slog.Handler {
	return levelHandler{h.Handler.WithGroup(name), h.level}
}

// traceHandler adds trace_id and span_id, from the span in the context, to the
// top level of each record, where log stores look for them. A group that is
// open would swallow attributes added to the record, so then they are put into
// the root handler first and the groups opened again.
type traceHandler struct {
	root    slog.Handler // without groups and attributes
	current slog.Handler // root after all of steps
	grouped bool         // whether one of steps opens a group
	steps   []func(slog.Handler) slog.Handler
}

func (h traceHandler) opened() traceHandler {
	h.current = h.root
	return h
}

// Enabled reports whether records of this level are handled.
func (h traceHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.root.Enabled(ctx, level)
}

// Handle writes the record.
func (h traceHandler) Handle(ctx context.Context, r slog.Record) error {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsValid() {
		return h.current.Handle(ctx, r)
	}
	ids := []slog.Attr{
		slog.String("trace_id", span.TraceID().String()),
		slog.String("span_id", span.SpanID().String()),
	}
	if !h.grouped {
		r = r.Clone() // others may hold the record too
		r.AddAttrs(ids...)
		return h.current.Handle(ctx, r)
	}
	handler := h.root.WithAttrs(ids)
	for _, step := range h.steps {
		handler = step(handler)
	}
	return handler.Handle(ctx, r)
}

// WithAttrs returns the handler with attributes added to every record.
func (h traceHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	return h.then(func(next slog.Handler) slog.Handler { return next.WithAttrs(attrs) })
}

// WithGroup returns the handler with later attributes in a group.
func (h traceHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	h.grouped = true
	return h.then(func(next slog.Handler) slog.Handler { return next.WithGroup(name) })
}

func (h traceHandler) then(step func(slog.Handler) slog.Handler) traceHandler {
	h.current = step(h.current)
	h.steps = append(slices.Clip(h.steps), step)
	return h
}
