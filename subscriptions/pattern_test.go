package subscriptions

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParsePattern_TakesTheThreeForms(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"*", "order", "order.paid", "order.*", "order.paid.*", "a_1.B", "_", "1.2.3",
		strings.Repeat("a", 255), strings.Repeat("a", 253) + ".*"} {
		if p, err := ParsePattern(s); err != nil || p != Pattern(s) {
			t.Errorf("%.40q: %q, %v", s, p, err)
		}
	}
}

func TestParsePattern_RefusesEverythingElse(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", ".", ".*", "*.*", "**", "order*", "order.", ".paid", "order..paid", "order.*.paid", "*.paid", "order.**",
		"order.*.*", "order paid", "order-paid", "order.paid\n", "ördér", "order/paid", "order.?", "' OR 1=1", "\x00", "\xff",
		strings.Repeat("a", 256), strings.Repeat("a", 254) + ".*"} {
		if p, err := ParsePattern(s); err == nil || p != "" {
			t.Errorf("%.40q is taken as %q", s, p)
		}
	}
}

func TestPattern_Matches(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[Pattern]map[string]bool{
		"*":          {"order": true, "order.paid": true, "a.b.c": true, "posthorn.delivery.dead": false, "posthorns.x": true},
		"posthorn.*": {"posthorn.delivery.dead": true, "posthorn": false, "order.paid": false},
		"order.paid": {"order.paid": true, "order.paid.late": false, "order": false, "order.pai": false, "Order.paid": false, "xorder.paid": false},
		"order":      {"order": true, "order.paid": false, "orders": false},
		"order.*":    {"order.paid": true, "order.paid.late": true, "order": false, "orders.paid": false, "x.order.paid": false},
		"a.b.*":      {"a.b.c": true, "a.b.c.d": true, "a.b": false, "a.bc": false, "a.c.b": false},
	} {
		for eventType, is := range want {
			if pattern.Matches(eventType) != is {
				t.Errorf("%s matches %s: %t", pattern, eventType, !is)
			}
		}
	}
}

// naive is the contract's sentence, word for word: exactly, everything below at
// any depth, everything.
func naive(pattern, eventType string) bool {
	want, got := strings.Split(pattern, "."), strings.Split(eventType, ".")
	if pattern == "*" {
		return true
	}
	below := want[len(want)-1] == "*"
	if below {
		want = want[:len(want)-1]
	}
	if len(got) < len(want) {
		return false
	}
	for i := range want {
		if want[i] != got[i] {
			return false
		}
	}
	return below && len(got) > len(want) || !below && len(got) == len(want)
}

func TestPattern_MatchesAsTheContractSays(t *testing.T) {
	t.Parallel()
	// Few letters and short names, so that much is alike.
	eventTypes := rapid.StringMatching(`[ab]{1,2}(\.[ab]{1,2}){0,3}`)
	patterns := rapid.OneOf(eventTypes, rapid.Just("*"), rapid.Map(eventTypes, func(s string) string { return s + ".*" }))
	matched := 0
	rapid.Check(t, func(t *rapid.T) {
		pattern, eventType := patterns.Draw(t, "pattern"), eventTypes.Draw(t, "type")
		p, err := ParsePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		want := naive(pattern, eventType)
		if want {
			matched++
		}
		if p.Matches(eventType) != want {
			t.Fatalf("%s matches %s: %t, the contract says %t", pattern, eventType, !want, want)
		}
	})
	if matched == 0 {
		t.Error("nothing matched, the property says nothing")
	}
}

func FuzzParsePattern(f *testing.F) {
	for _, s := range []string{"*", "order.*", "order.paid", "a..b", ".*", ""} {
		f.Add(s, "order.paid")
	}
	f.Fuzz(func(t *testing.T, s, eventType string) {
		p, err := ParsePattern(s)
		if err != nil {
			return
		}
		if string(p) != s || len(s) > maxPatternLength {
			t.Errorf("%q is taken as %q", s, p)
		}
		if !strings.HasSuffix(s, "*") && p.Matches(eventType) != (s == eventType) {
			t.Errorf("%q matches %q", s, eventType)
		}
	})
}
