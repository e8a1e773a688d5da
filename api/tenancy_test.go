package api_test

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// withID are the routes that name an object, in the document's words.
func (h history) withID() map[string]string {
	return map[string]string{
		"GET /v1/endpoints/{id}":            "/v1/endpoints/" + h.endpoint.String(),
		"PATCH /v1/endpoints/{id}":          "/v1/endpoints/" + h.endpoint.String(),
		"DELETE /v1/endpoints/{id}":         "/v1/endpoints/" + h.endpoint.String(),
		"POST /v1/endpoints/{id}/pause":     "/v1/endpoints/" + h.endpoint.String() + "/pause",
		"POST /v1/endpoints/{id}/resume":    "/v1/endpoints/" + h.endpoint.String() + "/resume",
		"GET /v1/events/{id}":               "/v1/events/" + h.event.String(),
		"GET /v1/deliveries/{id}":           "/v1/deliveries/" + h.delivery.String(),
		"GET /v1/deliveries/{id}/attempts":  "/v1/deliveries/" + h.delivery.String() + "/attempts",
		"POST /v1/deliveries/{id}/retry":    "/v1/deliveries/" + h.delivery.String() + "/retry",
		"GET /v1/dead-letters/{id}":         "/v1/dead-letters/" + h.deadLetter.String(),
		"POST /v1/dead-letters/{id}/replay": "/v1/dead-letters/" + h.deadLetter.String() + "/replay",
	}
}

// documented are the routes of openapi.yaml.
func documented(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("openapi.yaml")
	must(t, err)
	var doc struct{ Paths map[string]map[string]any }
	must(t, yaml.Unmarshal(text, &doc))
	var routes []string
	for path, item := range doc.Paths {
		for method := range item {
			if method != "parameters" {
				routes = append(routes, strings.ToUpper(method)+" "+path)
			}
		}
	}
	return routes
}

func TestAnotherTenantsObjectsLookLikeMissingOnes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	theirs := b.history(t, "shop_1")
	everybodys := b.history(t, "shop_3")
	b.exec(t, `UPDATE posthorn.endpoints SET tenant_id = '*' WHERE id = $1`, everybodys.endpoint)
	b.exec(t, `UPDATE posthorn.deliveries SET tenant_id = '*' WHERE id = $1`, everybodys.delivery)
	b.exec(t, `UPDATE posthorn.dead_letters SET tenant_id = '*' WHERE id = $1`, everybodys.deadLetter)
	targets := theirs.withID()
	for _, route := range documented(t) {
		if strings.Contains(route, "{") && targets[route] == "" {
			t.Errorf("%s is not tried", route)
		}
	}
	key := b.subscriber(t, "shop_2").key
	foreign := map[string]map[string]string{"OfATenant": targets, "OfAllTenants": everybodys.withID()}
	for whose, targets := range foreign {
		for route, target := range targets {
			t.Run(whose+"/"+route, func(t *testing.T) {
				t.Parallel()
				method, _, _ := strings.Cut(route, " ")
				body := ""
				if method == "PATCH" {
					body = `{"description":"mine now"}`
				}
				shop := client{t, b, key}
				p := shop.do(method, target, body).refused(http.StatusNotFound, "not_found")
				// The same id with other digits is nobody's.
				missing := shop.do(method, noSuch(target), body).refused(http.StatusNotFound, "not_found")
				malformed := shop.do(method, strings.Replace(target, "_", "_0", 1), body).refused(http.StatusNotFound, "not_found")
				p.RequestID, missing.RequestID, malformed.RequestID = "", "", ""
				if p.Detail != missing.Detail || p.Detail != malformed.Detail || p.Title != missing.Title {
					t.Errorf("another tenant's: %+v, a missing one's: %+v, a malformed one's: %+v", p, missing, malformed)
				}
			})
		}
	}
}

// noSuch replaces the id in a target by one that nothing has.
func noSuch(target string) string {
	parts := strings.Split(target, "/")
	prefix, _, _ := strings.Cut(parts[3], "_")
	parts[3] = prefix + "_" + strings.Repeat("0", 25) + "1"
	return strings.Join(parts, "/")
}

func TestNothingOfAnotherTenantIsChanged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	h := b.history(t, "shop_1")
	before := b.operator(t).get("/v1/endpoints/" + h.endpoint.String()).want(200).body
	shop := b.subscriber(t, "shop_2")
	for route, target := range h.withID() {
		method, _, _ := strings.Cut(route, " ")
		body := ""
		if method == "PATCH" {
			body = `{"url":"https://thief.example.com/"}`
		}
		shop.do(method, target, body).want(http.StatusNotFound)
	}
	if after := b.operator(t).get("/v1/endpoints/" + h.endpoint.String()).want(200).body; after != before {
		t.Errorf("the endpoint was %s and is %s", before, after)
	}
	if d := b.operator(t).get("/v1/deliveries/" + h.delivery.String()).want(200).object(); d["status"] != "dead" {
		t.Errorf("the delivery is %v", d)
	}
}

func TestListsShowTheOwnTenantOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	mine, theirs := b.history(t, "shop_1"), b.history(t, "shop_2")
	shop, op := b.subscriber(t, "shop_1"), b.operator(t)
	for name, own := range map[string][]string{
		"endpoints":    {mine.unmatched.String(), mine.endpoint.String()},
		"events":       {mine.event.String()},
		"deliveries":   {mine.delivery.String()},
		"dead-letters": {mine.deadLetter.String()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shop, op := client{t, b, shop.key}, client{t, b, op.key}
			slices.Sort(own)
			if got := sorted(shop.get("/v1/" + name)); !slices.Equal(got, own) {
				t.Errorf("the subscriber sees %v, want %v", got, own)
			}
			if got := sorted(shop.get("/v1/" + name + "?tenant_id=shop_1")); !slices.Equal(got, own) {
				t.Errorf("naming the own tenant shows %v, want %v", got, own)
			}
			shop.get("/v1/"+name+"?tenant_id=shop_2").refused(http.StatusForbidden, "tenant_mismatch")
			shop.get("/v1/"+name+"?tenant_id=*").refused(http.StatusForbidden, "tenant_mismatch")
			if got := sorted(op.get("/v1/" + name + "?tenant_id=shop_1")); !slices.Equal(got, own) {
				t.Errorf("the operator sees %v of the tenant, want %v", got, own)
			}
			if got := op.get("/v1/" + name).list().ids(); len(got) != 2*len(own) {
				t.Errorf("the operator sees %v", got)
			}
		})
	}
	for _, filter := range []string{"endpoint_id=" + theirs.endpoint.String(), "event_id=" + theirs.event.String()} {
		if l := shop.get("/v1/deliveries?" + filter).list(); len(l.Data) != 0 {
			t.Errorf("%s shows %v", filter, l.Data)
		}
	}
}

// sorted are a list's ids; those made in one millisecond have no order.
func sorted(a answer) []string {
	ids := a.list().ids()
	slices.Sort(ids)
	return ids
}

func TestSubscribersCreateForTheirOwnTenantOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	shop := b.subscriber(t, "shop_1")
	endpoint := func(tenant string) string {
		return `{"url":"https://a.example","event_types":["*"]` + tenant + `}`
	}
	event := func(tenant string) string { return `{"event_type":"a","payload":1` + tenant + `}` }
	for route, body := range map[string]func(string) string{"/v1/endpoints": endpoint, "/v1/events": event} {
		if got := shop.post(route, body("")).object(); got["tenant_id"] != "shop_1" {
			t.Errorf("%s: the tenant is %v", route, got["tenant_id"])
		}
		if got := shop.post(route, body(`,"tenant_id":"shop_1"`)).object(); got["tenant_id"] != "shop_1" {
			t.Errorf("%s: the tenant is %v", route, got["tenant_id"])
		}
		shop.post(route, body(`,"tenant_id":"shop_2"`)).refused(http.StatusForbidden, "tenant_mismatch")
		shop.post(route, body(`,"tenant_id":"*"`)).refused(http.StatusForbidden, "operator_only")
	}
	if got := b.operator(t).post("/v1/endpoints", endpoint(`,"tenant_id":"*"`)).want(http.StatusCreated).object(); got["tenant_id"] != "*" {
		t.Errorf("the operator's endpoint is of %v", got["tenant_id"])
	}
	shop.get("/v1/ledger").refused(http.StatusForbidden, "operator_only")
}
