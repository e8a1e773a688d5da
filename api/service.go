package api

import (
	"context"

	"github.com/labstack/echo/v4"
)

// GetLedger implements GET /v1/ledger.
func (h handlers) GetLedger(ctx context.Context, _ GetLedgerRequestObject) (GetLedgerResponseObject, error) {
	if err := requireOperator(ctx); err != nil {
		return nil, err
	}
	l, err := h.config.Ledger(ctx)
	if err != nil {
		return nil, err
	}
	return GetLedger200JSONResponse{
		Object: "ledger", Events: l.Events, Unrouted: l.Unrouted, Routed: l.Routed, NoMatch: l.NoMatch,
		ExpectedDeliveries: l.Expected, Deliveries: l.Deliveries,
		HeldBy:      HeldBy{Paused: l.HeldBy.Paused, Disabled: l.HeldBy.Disabled, Other: l.HeldBy.Other},
		Unaccounted: l.Unaccounted, Unowned: l.Unowned,
		OldestUnsentSeconds: l.OldestUnsent.Seconds(), DeadLetters: l.DeadLetters, AuditedTo: l.AuditedTo.UTC(),
	}, nil
}

// GetHealth implements GET /healthz.
func (handlers) GetHealth(context.Context, GetHealthRequestObject) (GetHealthResponseObject, error) {
	return GetHealth200JSONResponse{Status: "ok"}, nil
}

// GetReadiness implements GET /readyz.
func (h handlers) GetReadiness(ctx context.Context, _ GetReadinessRequestObject) (GetReadinessResponseObject, error) {
	if err := h.config.Ready(ctx); err != nil {
		return nil, &problemError{code: "not_ready", detail: "The service can't do its work now; its log says why.", cause: err}
	}
	return GetReadiness200JSONResponse{Status: "ready"}, nil
}

// metrics answers GET /metrics.
func (s *Server) metrics(c echo.Context) error {
	if s.config.Metrics == nil {
		return problem("not_found", "Metrics are switched off.")
	}
	s.config.Metrics.ServeHTTP(c.Response(), c.Request())
	return nil
}
