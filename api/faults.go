package api

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// faults says in a person's words where a value does not fit its schema. The
// place is the value's own within the request.
func faults(schema *jsonschema.Schema, value any, place []string) []FieldError {
	err := schema.Validate(value)
	if err == nil {
		return nil
	}
	verr, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return []FieldError{fault(pointer(place), "does not fit")}
	}
	return appendFaults(nil, verr, place)
}

// appendFaults collects the leaves of the tree of errors.
func appendFaults(to []FieldError, err *jsonschema.ValidationError, place []string) []FieldError {
	if len(err.Causes) > 0 {
		for _, cause := range err.Causes {
			to = appendFaults(to, cause, place)
		}
		return to
	}
	where := append(place[:len(place):len(place)], err.InstanceLocation...)
	switch k := err.ErrorKind.(type) {
	case *kind.Required:
		for _, name := range k.Missing {
			to = append(to, fault(pointer(append(where[:len(where):len(where)], name)), "is required"))
		}
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			to = append(to, fault(pointer(append(where[:len(where):len(where)], name)), "is not known here"))
		}
	default:
		to = append(to, fault(pointer(where), words(err.ErrorKind)))
	}
	return to
}

// noNUL is the pattern of the document that only keeps out the character that
// PostgreSQL's text can't hold.
const noNUL = `^[^\x00]*$`

// words says what a value must be.
func words(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return "must be " + typeWords(k.Want) + ", not " + typeWords([]string{k.Got})
	case *kind.Enum:
		var all []string
		for _, v := range k.Want {
			all = append(all, fmt.Sprint(v))
		}
		return "must be one of " + strings.Join(all, ", ")
	case *kind.MinLength:
		return fmt.Sprintf("must have at least %s, not %d", count(k.Want, "character"), k.Got)
	case *kind.MaxLength:
		return fmt.Sprintf("must have at most %s, not %d", count(k.Want, "character"), k.Got)
	case *kind.MinItems:
		return fmt.Sprintf("must have at least %s, not %d", count(k.Want, "item"), k.Got)
	case *kind.MaxItems:
		return fmt.Sprintf("must have at most %s, not %d", count(k.Want, "item"), k.Got)
	case *kind.Minimum:
		return "must be at least " + decimal(k.Want)
	case *kind.Maximum:
		return "must be at most " + decimal(k.Want)
	case *kind.Format:
		return "must be an RFC 3339 time such as 2026-03-01T09:30:00Z"
	case *kind.Pattern:
		if k.Want == noNUL {
			return "must not hold the character NUL"
		}
		return "must have the form " + k.Want
	}
	return "does not fit the API's description of it"
}

// decimal writes a limit as the document does: 0.01, not 1/100.
func decimal(limit *big.Rat) string {
	f, _ := limit.Float64()
	return strconv.FormatFloat(f, 'f', -1, 64)
}

// typeWords says JSON's types as people do.
func typeWords(types []string) string {
	names := map[string]string{
		"object": "an object", "array": "a list", "string": "text", "boolean": "true or false",
		"integer": "a whole number", "number": "a number", "null": "null",
	}
	var all []string
	for _, t := range types {
		all = append(all, names[t])
	}
	return strings.Join(all, " or ")
}

func count(n int, of string) string {
	if n == 1 {
		return "1 " + of
	}
	return fmt.Sprintf("%d %ss", n, of)
}

// fault says what is wrong at a place.
func fault(pointer, detail string) FieldError { return FieldError{Pointer: pointer, Detail: detail} }
