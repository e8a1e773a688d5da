package telemetry

import (
	"fmt"
	"io"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// escapeWriter replaces, in lines of JSON, the characters that steer a terminal
// or a reader's eye and that JSON allows unescaped: delete, the C1 controls
// (U+009B begins an ANSI sequence as ESC [ does) and the invisible format
// characters that reverse text. In JSON they can stand inside strings only, so
// \uXXXX means the same to every program.
type escapeWriter struct {
	out io.Writer
}

// Write writes the line, escaped, in one Write.
func (w escapeWriter) Write(line []byte) (int, error) {
	if !isSteering(line) {
		return w.out.Write(line)
	}
	escaped := make([]byte, 0, len(line)+32)
	for rest := line; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		if steers(r) {
			escaped = appendEscaped(escaped, r)
		} else {
			escaped = append(escaped, rest[:size]...)
		}
		rest = rest[size:]
	}
	if _, err := w.out.Write(escaped); err != nil {
		return 0, err
	}
	return len(line), nil
}

// isSteering reports whether there is anything to escape.
func isSteering(line []byte) bool {
	for rest := line; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		if steers(r) {
			return true
		}
		rest = rest[size:]
	}
	return false
}

// steers leaves out what is below U+0020: slog has escaped it, but for the
// line's own end.
func steers(r rune) bool {
	return r >= 0x7f && unicode.In(r, unicode.Cc, unicode.Cf)
}

func appendEscaped(to []byte, r rune) []byte {
	if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
		return fmt.Appendf(to, `\u%04x\u%04x`, high, low)
	}
	return fmt.Appendf(to, `\u%04x`, r)
}
