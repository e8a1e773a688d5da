package subscriptions

import (
	"fmt"
	"strings"
)

// Pattern selects event types: "order.paid" exactly that type, "order.*"
// everything below order at any depth, "*" everything that producers publish.
type Pattern string

// maxPatternLength is that of an event type.
const maxPatternLength = 255

// ParsePattern checks a pattern; the error tells a subscriber what is wrong.
func ParsePattern(s string) (Pattern, error) {
	if s == "*" {
		return "*", nil
	}
	if len(s) > maxPatternLength {
		return "", fmt.Errorf("the pattern has %d characters, the limit is %d", len(s), maxPatternLength)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(s, ".*"), ".") {
		if name == "" || strings.ContainsFunc(name, notInName) {
			return "", fmt.Errorf("%.64q is not an event type such as order.paid, nor a pattern such as order.* or *", s)
		}
	}
	return Pattern(s), nil
}

func notInName(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_')
}

// Matches reports whether the pattern selects the event type.
func (p Pattern) Matches(eventType string) bool {
	if p == "*" {
		return !strings.HasPrefix(eventType, OperationalPrefix)
	}
	// "order.*" selects what begins with "order.", not "order" itself.
	if prefix, ok := strings.CutSuffix(string(p), "*"); ok {
		return strings.HasPrefix(eventType, prefix)
	}
	return string(p) == eventType
}
