package sample

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
)

// shown is a payload on one line, shortened.
func shown(data []byte) string {
	var compact bytes.Buffer
	if json.Compact(&compact, data) == nil {
		data = compact.Bytes()
	}
	if len(data) > maxPrinted {
		return string(data[:maxPrinted]) + "…"
	}
	return string(data)
}

// printable escapes what would steer a terminal: an event's text comes from
// whoever may publish.
func printable(line string) string {
	line = strings.ToValidUTF8(line, "\ufffd") // a lone byte 9b is a control too, in old encodings
	if !strings.ContainsFunc(line, unprintable) {
		return line
	}
	var b strings.Builder
	for _, r := range line {
		if unprintable(r) {
			fmt.Fprintf(&b, `\u{%x}`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
