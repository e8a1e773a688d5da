package api

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"
)

//go:embed openapi.yaml
var openapiYAML []byte

// spec is openapi.yaml, made ready to check requests by.
type spec struct {
	// json is the document as it is served.
	json []byte
	// operations are found by method and echo's path: "GET /v1/events/:id".
	operations map[string]*operation
}

// operation is what the document says of one route.
type operation struct {
	// pattern is the route as telemetry names it: "GET /v1/events/{id}".
	pattern string
	// body is the schema of the request's body; nil for operations without.
	body *jsonschema.Schema
	// query are the query parameters by name.
	query map[string]parameter
}

// parameter is a query parameter.
type parameter struct {
	// kind is its JSON type: string, integer or boolean.
	kind   string
	schema *jsonschema.Schema
}

// operation finds the operation of a routed request; nil for none.
func (s *spec) operation(c echo.Context) *operation {
	return s.operations[c.Request().Method+" "+c.Path()]
}

// loadSpec reads the embedded document, once in the process.
var loadSpec = sync.OnceValues(func() (*spec, error) {
	var doc map[string]any
	if err := yaml.Unmarshal(openapiYAML, &doc); err != nil {
		return nil, fmt.Errorf("openapi.yaml: %w", err)
	}
	r := reader{doc: doc, compiler: jsonschema.NewCompiler()}
	r.compiler.RegisterFormat(&jsonschema.Format{Name: "date-time", Validate: checkTime})
	r.compiler.AssertFormat()
	if err := r.compiler.AddResource(specURL, doc); err != nil {
		return nil, fmt.Errorf("openapi.yaml: %w", err)
	}
	s := &spec{operations: map[string]*operation{}}
	for path, item := range at(doc, "paths").(map[string]any) {
		for method, op := range item.(map[string]any) {
			if method == "parameters" {
				continue // those of the path: handlers read ids themselves
			}
			method = strings.ToUpper(method)
			o, err := r.operation([]string{"paths", path, strings.ToLower(method)}, op.(map[string]any))
			if err != nil {
				return nil, fmt.Errorf("openapi.yaml: %s %s: %w", method, path, err)
			}
			o.pattern = method + " " + path
			s.operations[method+" "+echoPath(path)] = o
		}
	}
	var err error
	if s.json, err = json.Marshal(published(doc)); err != nil {
		return nil, fmt.Errorf("openapi.yaml: %w", err)
	}
	return s, nil
})

// specURL names the document within the compiler; nothing is fetched.
const specURL = "posthorn:///openapi"

// echoPath writes a path of the document in echo's way.
func echoPath(path string) string {
	return strings.NewReplacer("{", ":", "}", "").Replace(path)
}

// checkTime accepts what time.Time does, so that no later step refuses it.
func checkTime(v any) error {
	text, ok := v.(string)
	if !ok {
		return nil
	}
	_, err := time.Parse(time.RFC3339, text)
	return err
}

// reader compiles the schemas of the document.
type reader struct {
	doc      map[string]any
	compiler *jsonschema.Compiler
}

func (r reader) operation(place []string, op map[string]any) (*operation, error) {
	o := &operation{query: map[string]parameter{}}
	var err error
	if at(op, "requestBody") != nil {
		place := append(place[:len(place):len(place)], "requestBody", "content", "application/json", "schema")
		if o.body, err = r.compile(place); err != nil {
			return nil, err
		}
	}
	params, _ := op["parameters"].([]any)
	for i, p := range params {
		place := append(place[:len(place):len(place)], "parameters", fmt.Sprint(i))
		if ref, ok := at(p, "$ref").(string); ok {
			place = strings.Split(strings.TrimPrefix(ref, "#/"), "/")
			p = at(r.doc, place...)
		}
		if at(p, "in") != "query" {
			continue
		}
		schema, err := r.compile(append(place, "schema"))
		if err != nil {
			return nil, err
		}
		o.query[at(p, "name").(string)] = parameter{r.typeOf(at(p, "schema")), schema}
	}
	return o, nil
}

// typeOf is the type of a schema or of the one that it refers to.
func (r reader) typeOf(schema any) string {
	if ref, ok := at(schema, "$ref").(string); ok {
		schema = at(r.doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	}
	name, _ := at(schema, "type").(string)
	return name
}

func (r reader) compile(place []string) (*jsonschema.Schema, error) {
	return r.compiler.Compile(specURL + "#" + pointer(place))
}

// pointer writes a JSON pointer.
func pointer(place []string) string {
	var b strings.Builder
	for _, part := range place {
		b.WriteByte('/')
		b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(part))
	}
	return b.String()
}

// at walks down objects; nil when there is nothing.
func at(v any, place ...string) any {
	for _, name := range place {
		object, _ := v.(map[string]any)
		v = object[name]
	}
	return v
}

// published is the document without what only the generator of Go code reads.
func published(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for name, value := range v {
			if !strings.HasPrefix(name, "x-go-") {
				m[name] = published(value)
			}
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i, value := range v {
			l[i] = published(value)
		}
		return l
	}
	return v
}

// openAPI answers GET /openapi.json.
func (s *Server) openAPI(c echo.Context) error {
	return c.JSONBlob(http.StatusOK, s.spec.json)
}
