package api_test

import (
	"net/http"
	"strings"
	"testing"
)

const newEndpoint = `{"url":"https://shop.example.com/hooks","event_types":["order.paid","refund.*"],
	"description":"Production","metadata":{"team":"payments"},"payload_format":"raw"}`

func TestEndpoint(t *testing.T) {
	t.Parallel()
	b := setup(t)
	op := b.operator(t)

	created := op.post("/v1/endpoints", newEndpoint).want(http.StatusCreated)
	e := created.object()
	id := e["id"].(string)
	if !strings.HasPrefix(e["secret"].(string), "whsec_") || e["tenant_id"] != "default" || e["status"] != "enabled" ||
		e["disabled_reason"] != nil || e["payload_format"] != "raw" || e["metadata"].(map[string]any)["team"] != "payments" {
		t.Errorf("created: %s", created.body)
	}

	got := op.get("/v1/endpoints/" + id).want(http.StatusOK)
	if _, shown := got.object()["secret"]; shown {
		t.Error("the secret is shown a second time")
	}
	if got.header.Get("ETag") != `"1"` || created.header.Get("ETag") != `"1"` {
		t.Errorf("ETag %s, at first %s", got.header.Get("ETag"), created.header.Get("ETag"))
	}

	changed := op.do("PATCH", "/v1/endpoints/"+id, `{"description":"EU","event_types":["*"]}`, "If-Match", `"1"`).want(http.StatusOK)
	if c := changed.object(); c["description"] != "EU" || c["url"] != "https://shop.example.com/hooks" || len(c["event_types"].([]any)) != 1 {
		t.Errorf("changed: %s", changed.body)
	}
	if changed.header.Get("ETag") != `"2"` {
		t.Errorf("ETag %s after the change", changed.header.Get("ETag"))
	}

	if ids := op.get("/v1/endpoints").list().ids(); len(ids) != 1 || ids[0] != id {
		t.Errorf("listed: %v", ids)
	}
	op.do("DELETE", "/v1/endpoints/"+id, "").want(http.StatusNoContent)
	op.get("/v1/endpoints/"+id).refused(http.StatusNotFound, "not_found")
	op.do("DELETE", "/v1/endpoints/"+id, "").refused(http.StatusNotFound, "not_found")
	if ids := op.get("/v1/endpoints").list().ids(); len(ids) != 0 {
		t.Errorf("listed after the deletion: %v", ids)
	}
}

func TestThePaceOfAnEndpoint(t *testing.T) {
	t.Parallel()
	op := setup(t).operator(t)
	pace := func(a answer) string {
		e := a.object()
		return words(e["max_in_flight"], e["rate_limit_per_second"], e["ordering"])
	}
	create := func(members string) answer {
		return op.post("/v1/endpoints", `{"url":"https://a.example","event_types":["*"]`+members+`}`).want(http.StatusCreated)
	}
	for members, want := range map[string]string{
		``: "16 <nil> none",
		`,"rate_limit_per_second":null,"ordering":"none"`:                   "16 <nil> none",
		`,"max_in_flight":1,"rate_limit_per_second":0.01`:                   "1 0.01 none",
		`,"max_in_flight":256,"rate_limit_per_second":1e4,"ordering":"key"`: "256 10000 key",
	} {
		if got := pace(create(members)); got != want {
			t.Errorf("%s: %s, want %s", members, got, want)
		}
	}
	target := "/v1/endpoints/" + create("").object()["id"].(string)
	for _, c := range []struct{ body, want string }{ // in their order
		{`{"max_in_flight":40,"rate_limit_per_second":2.5,"ordering":"key"}`, "40 2.5 key"},
		{`{"description":"left as it is"}`, "40 2.5 key"},
		{`{"rate_limit_per_second":null}`, "40 <nil> key"},
		{`{"rate_limit_per_second":7}`, "40 7 key"},
		{`{"ordering":"none","max_in_flight":16}`, "16 7 none"},
	} {
		changed := op.do("PATCH", target, c.body).want(http.StatusOK)
		if got := pace(changed); got != c.want || pace(op.get(target)) != c.want {
			t.Errorf("%s: %s, want %s", c.body, got, c.want)
		}
	}
	if l := op.get("/v1/endpoints?limit=1").list(); l.Data[0]["rate_limit_per_second"] != 7.0 {
		t.Errorf("listed: %v", l.Data)
	}
}

func TestIfMatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	op := b.operator(t)
	id := op.post("/v1/endpoints", newEndpoint).want(http.StatusCreated).object()["id"].(string)
	version := 1
	for _, c := range []struct {
		name, header string
		status       int
	}{
		{"TheVersion", `"1"`, 200},
		{"AnOlderVersion", `"1"`, 412},
		{"Any", `*`, 200},
		{"OneOfSeveral", `"1", "3"`, 200},
		{"NoneOfSeveral", `"1", "2"`, 412},
		{"AWeakTag", `W/"4"`, 412},
		{"NoQuotes", `4`, 412},
		{"AnotherServersTag", `"abc"`, 412},
		{"Nothing", ``, 412},
		{"TheVersionAtLast", `"4"`, 200},
	} {
		// In their order: each success counts the version up.
		t.Run(c.name, func(t *testing.T) {
			got := client{t, b, bootstrapKey}.do("PATCH", "/v1/endpoints/"+id, `{"description":"x"}`, "If-Match", c.header)
			if c.status == 412 {
				got.refused(412, "version_mismatch")
				return
			}
			version++
			got.want(200)
		})
	}
	op.do("PATCH", "/v1/endpoints/ep_00000000000000000000000001", `{}`, "If-Match", `"1", "2"`).refused(404, "not_found")
	op.do("PATCH", "/v1/endpoints/ep_00000000000000000000000001", `{}`, "If-Match", `"1"`).refused(404, "not_found")
}

func TestRefusedEndpointsNameTheFields(t *testing.T) {
	t.Parallel()
	b := setup(t)
	op := b.operator(t)
	id := op.post("/v1/endpoints", newEndpoint).want(http.StatusCreated).object()["id"].(string)
	for _, c := range []struct{ name, body, pointer, words string }{
		{"NoURL", `{"event_types":["*"]}`, "/url", "is required"},
		{"NoPatterns", `{"url":"https://a.example","event_types":[]}`, "/event_types", "at least 1 item"},
		{"AWrongPattern", `{"url":"https://a.example","event_types":["*","order..paid"]}`, "/event_types/1", "order..paid"},
		{"APatternThatIsNoText", `{"url":"https://a.example","event_types":["*",7]}`, "/event_types/1", "must be text, not a number"},
		{"AnUnknownField", `{"url":"https://a.example","event_types":["*"],"urls":[]}`, "/urls", "not known"},
		{"AFieldWithASlash", `{"url":"https://a.example","event_types":["*"],"a/b~c":1}`, "/a~1b~0c", "not known"},
		{"AFieldTwice", `{"url":"https://a.example","url":"https://b.example","event_types":["*"]}`, "/url", "more than once"},
		{"AWrongType", `{"url":17,"event_types":["*"]}`, "/url", "must be text, not a number"},
		{"Null", `{"url":null,"event_types":["*"]}`, "/url", "must be text, not null"},
		{"AnInternalAddress", `{"url":"https://169.254.169.254/","event_types":["*"]}`, "/url", "public internet"},
		{"PlainHTTP", `{"url":"http://a.example","event_types":["*"]}`, "/url", "https"},
		{"AnUnknownFormat", `{"url":"https://a.example","event_types":["*"],"payload_format":"xml"}`, "/payload_format", "standard, raw, cloudevents"},
		{"MetadataThatIsAList", `{"url":"https://a.example","event_types":["*"],"metadata":[]}`, "/metadata", "must be an object, not a list"},
		{"NULInTheDescription", `{"url":"https://a.example","event_types":["*"],"description":"a\u0000b"}`, "/description", "NUL"},
		{"NULInTheTenant", `{"url":"https://a.example","event_types":["*"],"tenant_id":"\u0000"}`, "/tenant_id", "NUL"},
		{"AnEmptyTenant", `{"url":"https://a.example","event_types":["*"],"tenant_id":""}`, "/tenant_id", "at least 1 character"},
		{"NoneInFlight", `{"url":"https://a.example","event_types":["*"],"max_in_flight":0}`, "/max_in_flight", "at least 1"},
		{"ManyInFlight", `{"url":"https://a.example","event_types":["*"],"max_in_flight":257}`, "/max_in_flight", "at most 256"},
		{"HalfInFlight", `{"url":"https://a.example","event_types":["*"],"max_in_flight":1.5}`, "/max_in_flight", "must be a whole number, not a number"},
		{"WholeInFlightWithAPoint", `{"url":"https://a.example","event_types":["*"],"max_in_flight":16.0}`, "/max_in_flight", "plain whole number"},
		{"NullInFlight", `{"url":"https://a.example","event_types":["*"],"max_in_flight":null}`, "/max_in_flight", "not null"},
		{"NoRate", `{"url":"https://a.example","event_types":["*"],"rate_limit_per_second":0}`, "/rate_limit_per_second", "at least 0.01"},
		{"ASmallRate", `{"url":"https://a.example","event_types":["*"],"rate_limit_per_second":0.001}`, "/rate_limit_per_second", "at least 0.01"},
		{"ANegativeRate", `{"url":"https://a.example","event_types":["*"],"rate_limit_per_second":-1}`, "/rate_limit_per_second", "at least 0.01"},
		{"ALargeRate", `{"url":"https://a.example","event_types":["*"],"rate_limit_per_second":1e400}`, "/rate_limit_per_second", "at most 10000"},
		{"ARateInText", `{"url":"https://a.example","event_types":["*"],"rate_limit_per_second":"5"}`, "/rate_limit_per_second", "must be null or a number"},
		{"AnUnknownOrdering", `{"url":"https://a.example","event_types":["*"],"ordering":"strict"}`, "/ordering", "none, key"},
		{"AStatus", `{"url":"https://a.example","event_types":["*"],"status":"paused"}`, "/status", "not known"},
		{"AList", `[]`, "", "must be an object, not a list"},
		{"Text", `"x"`, "", "must be an object, not text"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := client{t, b, bootstrapKey}.post("/v1/endpoints", c.body).refused(422, "validation_failed")
			if len(p.Errors) != 1 || p.Errors[0].Pointer != c.pointer || !strings.Contains(p.Errors[0].Detail, c.words) {
				t.Errorf("errors %q, want one at %q with %q", p.Errors, c.pointer, c.words)
			}
		})
	}
	t.Run("SeveralAtOnce", func(t *testing.T) {
		t.Parallel()
		p := client{t, b, bootstrapKey}.post("/v1/endpoints", `{"url":1,"x":1,"description":2}`).refused(422, "validation_failed")
		var at []string
		for _, e := range p.Errors {
			at = append(at, e.Pointer)
		}
		if strings.Join(at, " ") != "/description /event_types /url /x" {
			t.Errorf("pointers %q", at)
		}
	})
	t.Run("ATenantInAnUpdate", func(t *testing.T) {
		t.Parallel()
		p := client{t, b, bootstrapKey}.do("PATCH", "/v1/endpoints/"+id, `{"tenant_id":"other"}`).refused(422, "validation_failed")
		if p.Errors[0].Pointer != "/tenant_id" {
			t.Errorf("errors %q", p.Errors)
		}
	})
	for name, body := range map[string]string{"/rate_limit_per_second": `{"rate_limit_per_second":0}`, "/max_in_flight": `{"max_in_flight":1e1}`,
		"/ordering": `{"ordering":null}`, "/health": `{"health":{}}`} {
		t.Run("InAnUpdate"+name, func(t *testing.T) {
			t.Parallel()
			p := client{t, b, bootstrapKey}.do("PATCH", "/v1/endpoints/"+id, body).refused(422, "validation_failed")
			if len(p.Errors) != 1 || p.Errors[0].Pointer != name {
				t.Errorf("errors %q", p.Errors)
			}
		})
	}
	t.Run("AnInternalAddressInAnUpdate", func(t *testing.T) {
		t.Parallel()
		p := client{t, b, bootstrapKey}.do("PATCH", "/v1/endpoints/"+id, `{"url":"https://127.0.0.1/"}`).refused(422, "validation_failed")
		if p.Errors[0].Pointer != "/url" {
			t.Errorf("errors %q", p.Errors)
		}
	})
}
