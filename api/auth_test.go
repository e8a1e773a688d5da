package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/posthorn/posthorn/api"
	"github.com/posthorn/posthorn/api/keys"
)

func TestWithoutAGoodKeyThereIsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	key, secret, err := b.keys.Create(t.Context(), keys.Operator, "", "")
	must(t, err)
	revoked, revokedSecret, err := b.keys.Create(t.Context(), keys.Operator, "", "")
	must(t, err)
	must(t, b.keys.Revoke(t.Context(), revoked.ID))
	for name, header := range map[string]string{
		"None":           "",
		"NoScheme":       secret,
		"AnotherScheme":  "Basic " + secret,
		"EmptyBearer":    "Bearer ",
		"Unknown":        "Bearer phk_" + strings.Repeat("A", 43),
		"Revoked":        "Bearer " + revokedSecret,
		"ThePrefixAlone": "Bearer " + secret[:12],
		"TheIdInstead":   "Bearer " + key.ID.String(),
		"OneMore":        "Bearer " + secret + "A",
		"BootstrapCut":   "Bearer " + bootstrapKey[:len(bootstrapKey)-1],
		"Odd":            "Bearer \x00\xff",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, target := range []string{"/v1/endpoints", "/v1/ledger", "/v1/no-such-route"} {
				got := client{t: t, b: b}.do("GET", target, "", "Authorization", header)
				got.refused(http.StatusUnauthorized, "unauthorized")
				if !strings.HasPrefix(got.header.Get("WWW-Authenticate"), "Bearer ") {
					t.Errorf("WWW-Authenticate %q", got.header.Get("WWW-Authenticate"))
				}
			}
		})
	}
	for _, header := range []string{"Bearer " + secret, "bearer " + secret, "Bearer " + bootstrapKey} {
		client{t: t, b: b}.do("GET", "/v1/endpoints", "", "Authorization", header).want(http.StatusOK)
	}
}

func TestARevokedKeyStopsAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	key, secret, err := b.keys.Create(t.Context(), keys.Subscriber, "shop_1", "")
	must(t, err)
	c := client{t, b, secret}
	c.get("/v1/endpoints").want(http.StatusOK)
	must(t, b.keys.Revoke(t.Context(), key.ID))
	c.get("/v1/endpoints").refused(http.StatusUnauthorized, "unauthorized")
}

func TestNoConfiguredKeyIsNoKey(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *api.Config) { c.OperatorKey = "" })
	client{t: t, b: b}.do("GET", "/v1/endpoints", "", "Authorization", "Bearer").refused(http.StatusUnauthorized, "unauthorized")
	client{t, b, bootstrapKey}.get("/v1/endpoints").refused(http.StatusUnauthorized, "unauthorized")
}

func TestKeysStayOutOfTheLog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, secret, err := b.keys.Create(t.Context(), keys.Subscriber, "shop_1", "")
	must(t, err)
	got := client{t, b, secret}.post("/v1/endpoints", newEndpoint).want(http.StatusCreated).object()
	b.operator(t).get("/v1/endpoints").want(http.StatusOK)
	log := b.log.String()
	for _, hidden := range []string{secret, bootstrapKey, got["secret"].(string)} {
		if strings.Contains(log, hidden) {
			t.Errorf("the log holds %s: %s", hidden, log)
		}
	}
	if !strings.Contains(log, "tenant_id=shop_1") || !strings.Contains(log, "status=201") {
		t.Errorf("the log says %s", log)
	}
}
