package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// decode reads a body for the check against its schema. What is stored later is
// taken from the body's bytes, not from this.
func decode(body []byte) (any, error) {
	if !utf8.Valid(body) {
		return nil, problem("malformed_json", "The body is not UTF-8.")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, malformed(err, len(body))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, problem("malformed_json", fmt.Sprintf("Something follows the body's JSON, from byte %d on.", d.InputOffset()))
	}
	return finite(v), nil
}

func malformed(err error, size int) error {
	syntax, ok := errors.AsType[*json.SyntaxError](err)
	switch {
	case size == 0:
		return problem("malformed_json", "The body is empty; it must be a JSON object.")
	case ok && strings.Contains(syntax.Error(), "max depth"):
		return invalid(fault("", "is nested deeper than 10,000 levels"))
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return problem("malformed_json", "The body ends in the middle of its JSON.")
	case ok:
		return problem("malformed_json", fmt.Sprintf("The body is not JSON; see byte %d.", syntax.Offset))
	}
	return &problemError{code: "malformed_json", detail: "The body is not JSON.", cause: err}
}

// finite turns numbers into floats. The schemas compare numbers exactly, and
// exactly 1e999999999 would take gigabytes; no limit in them needs more than a
// float tells.
func finite(v any) any {
	switch v := v.(type) {
	case json.Number:
		f, err := v.Float64()
		if err != nil {
			f = math.Copysign(math.MaxFloat64, f)
		}
		return f
	case map[string]any:
		for name, value := range v {
			v[name] = finite(value)
		}
	case []any:
		for i, value := range v {
			v[i] = finite(value)
		}
	}
	return v
}

// repeatedMembers names the members that a JSON object has more than once, on
// its first level: which of two would count is not for us to guess. What lies
// deeper is the client's own data.
func repeatedMembers(body []byte) []string {
	d := json.NewDecoder(bytes.NewReader(body))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil
	}
	seen := map[string]int{}
	var repeated []string
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return repeated
		}
		if text, ok := name.(string); ok {
			if seen[text]++; seen[text] == 2 {
				repeated = append(repeated, text)
			}
		}
		var skipped json.RawMessage
		if err := d.Decode(&skipped); err != nil {
			return repeated
		}
	}
	return repeated
}
