package exchange

import (
	"testing"
)

func TestProgress_NeverGoesBack(t *testing.T) {
	t.Parallel()
	var p Progress
	for _, s := range []Step{Resolving, Waiting, Connecting, Sending} {
		p.to(s)
	}
	if got := p.Step(); got != Waiting {
		t.Errorf("%d", got)
	}
}
