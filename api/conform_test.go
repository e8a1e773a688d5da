package api_test

import (
	"net/http"
	"os"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

// contract is openapi.yaml as an independent library reads it. Answers must not
// hold a field that it does not describe; clients must expect new ones.
var contract = sync.OnceValues(func() (routers.Router, error) {
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		return nil, err
	}
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData(text)
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(loader.Context); err != nil {
		return nil, err
	}
	for _, schema := range doc.Components.Schemas {
		if s := schema.Value; len(s.Properties) > 0 && s.AdditionalProperties.Schema == nil {
			no := false
			s.AdditionalProperties.Has = &no
		}
	}
	return gorillamux.NewRouter(doc)
})

// conforms holds an answer against openapi.yaml.
func conforms(t testing.TB, r *http.Request, w *http.Response, body []byte) {
	t.Helper()
	router, err := contract()
	must(t, err)
	route, params, err := router.FindRoute(r)
	if err != nil {
		return // 404 or 405; answer.refused looks at its form
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
		Status:                 w.StatusCode,
		Header:                 w.Header,
		Options:                &openapi3filter.Options{IncludeResponseStatus: true},
	}
	input.SetBodyBytes(body)
	if err := openapi3filter.ValidateResponse(t.Context(), input); err != nil {
		t.Errorf("%s %s: the answer is not as openapi.yaml says: %v", r.Method, r.URL, err)
	}
}

func TestConformanceRefusesWhatIsNotDescribed(t *testing.T) {
	t.Parallel()
	router, err := contract()
	must(t, err)
	for name, body := range map[string]string{
		"AnUnknownField": `{"status":"ok","more":1}`,
		"AMissingField":  `{}`,
		"AnotherType":    `{"status":1}`,
		"AnotherWord":    `{"status":"fine"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := http.NewRequestWithContext(t.Context(), "GET", "/healthz", nil)
			must(t, err)
			route, params, err := router.FindRoute(r)
			must(t, err)
			input := &openapi3filter.ResponseValidationInput{
				RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
				Status:                 200,
				Header:                 http.Header{"Content-Type": {"application/json"}},
			}
			input.SetBodyBytes([]byte(body))
			if err := openapi3filter.ValidateResponse(t.Context(), input); err == nil {
				t.Errorf("%s passes", body)
			}
		})
	}
}
