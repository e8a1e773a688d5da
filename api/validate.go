package api

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/labstack/echo/v4"
)

// bodySlack is how much larger than the largest payload a request's body may be.
const bodySlack = 1 << 20

// bodyKey is where echo's context keeps a checked body.
const bodyKey = "posthorn.body"

// validate holds the request against its operation's schemas, so that what
// follows only ever sees parameters and bodies of the right form.
func (s *Server) validate(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		op := s.spec.operation(c)
		if op == nil {
			return next(c)
		}
		if err := op.checkQuery(c.Request().URL.RawQuery); err != nil {
			return err
		}
		if op.body == nil {
			return next(c)
		}
		body, err := s.readBody(c)
		if err != nil {
			return err
		}
		if err := op.checkBody(body); err != nil {
			return err
		}
		c.Set(bodyKey, body)
		return next(c)
	}
}

// readBody reads a JSON body of bounded size.
func (s *Server) readBody(c echo.Context) ([]byte, error) {
	r := c.Request()
	if header := r.Header.Get("Content-Type"); header != "" {
		if kind, _, err := mime.ParseMediaType(header); err != nil || kind != "application/json" {
			return nil, problem("unsupported_media_type", "The body must be JSON, and Content-Type say so: application/json.")
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.Response(), r.Body, s.config.MaxPayloadBytes+bodySlack))
	if err != nil {
		if p := problemOf(err); p.code == "too_large" {
			return nil, p
		}
		return nil, &problemError{code: "bad_request", detail: "The body ended too early.", cause: err}
	}
	return body, nil
}

// checkedBinder decodes the body that validate has checked. Unlike echo's own
// it never mixes query parameters into it.
type checkedBinder struct{}

// Bind implements echo.Binder.
func (checkedBinder) Bind(into any, c echo.Context) error {
	body, _ := c.Get(bodyKey).([]byte)
	err := json.Unmarshal(body, into)
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		// Of right type by its schema, all the same: 16.0 is an integer there.
		return invalid(fault(pointer(strings.Split(e.Field, ".")), "must be written as a plain whole number"))
	} else if err != nil {
		return &problemError{code: "bad_request", detail: "The body can't be read.", cause: err}
	}
	return nil
}

// checkQuery holds the query parameters against their schemas.
func (o *operation) checkQuery(raw string) error {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return problem("bad_request", "The query string is not properly percent-encoded.")
	}
	var fields []FieldError
	for name, given := range values {
		p, known := o.query[name]
		switch {
		case !known:
			fields = append(fields, fault(pointer([]string{name}), "is no parameter of this route"))
		case len(given) > 1:
			fields = append(fields, fault(pointer([]string{name}), "is given more than once"))
		default:
			fields = append(fields, p.check(name, given[0])...)
		}
	}
	return invalidOrNil(fields)
}

func (p parameter) check(name, text string) []FieldError {
	if !utf8.ValidString(text) {
		return []FieldError{fault(pointer([]string{name}), "is not UTF-8")}
	}
	var value any = text
	switch p.kind {
	case "integer":
		if n, err := strconv.ParseInt(text, 10, 32); err == nil {
			value = int(n)
		}
	case "boolean":
		if text == "true" || text == "false" {
			value = text == "true"
		}
	}
	return faults(p.schema, value, []string{name})
}

// checkBody holds the body against its schema.
func (o *operation) checkBody(body []byte) error {
	value, err := decode(body)
	if err != nil {
		return err
	}
	fields := faults(o.body, value, nil)
	for _, name := range repeatedMembers(body) {
		fields = append(fields, fault(pointer([]string{name}), "is given more than once"))
	}
	return invalidOrNil(fields)
}

// invalidOrNil lists the faults in the order of their pointers: the same
// request always gets the same answer.
func invalidOrNil(fields []FieldError) error {
	if len(fields) == 0 {
		return nil
	}
	slices.SortStableFunc(fields, func(a, b FieldError) int { return strings.Compare(a.Pointer, b.Pointer) })
	return invalid(fields...)
}
