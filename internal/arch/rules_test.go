package arch

// module is the path of this module.
const module = "github.com/posthorn/posthorn"

// allowed says which packages of this module each package may import. Packages
// are named by their path below the module; every one must be here.
//
//	cmd → api → dispatcher → {outbox, subscriptions} → webhook
type allowed struct {
	imports []string
	because string
}

var inModule = map[string]allowed{
	"cmd/posthorn": {[]string{"*"},
		"it is the only wiring: everything may be used here"},
	"api": {[]string{"api/keys", "dispatcher", "outbox", "outbox/outboxotel", "subscriptions", "internal/typeid"},
		"it translates HTTP into calls of the packages below, and knows nothing of how they are wired"},
	"api/keys": {[]string{"internal/typeid"},
		"who may call is decided without knowing what is called"},
	"dispatcher": {[]string{"migrations", "outbox", "subscriptions", "webhook", "internal/exchange", "internal/netguard", "internal/typeid"},
		"the heart depends on what it moves, never on who asks"},
	"inbox": {[]string{"outbox", "webhook", "internal/typeid"},
		"what comes in goes on by the outbox alone, so that inbound and outbound stay independent"},
	"subscriptions": {[]string{"webhook", "internal/netguard", "internal/typeid"},
		"who wants what is known without knowing how it is sent"},
	"outbox": {[]string{"internal/typeid"},
		"producers import it: it must cost them nothing but pgx"},
	"outbox/outboxotel": {[]string{"outbox"},
		"it is outbox for producers that have OpenTelemetry"},
	"webhook": {nil,
		"receivers import it: it must cost them nothing"},
	"webhook/interop": {nil,
		"a judge of webhook that imported it would share its mistakes"},
	"migrations": {nil,
		"the schema comes before everything that uses it"},
	"deploy": {nil,
		"it reads files, to compare them with the code"},

	"internal/arch":      {nil, "it judges the others from outside"},
	"internal/bench":     {[]string{"dispatcher", "migrations", "outbox", "subscriptions", "webhook", "internal/devdb", "internal/netguard", "internal/volume"}, "it measures the service from outside, in processes that cmd wires; of the dispatcher it times the lists"},
	"internal/collector": {nil, "it knows the process, not what the process does"},
	"internal/doctor":    {[]string{"dispatcher", "migrations", "subscriptions"}, "whoever shows a diagnosis, on a terminal or a page, asks for the same one"},
	"internal/devdb":     {nil, "a PostgreSQL server knows nothing of what is kept in it"},
	"internal/exchange":  {nil, "it moves bytes, and knows nothing of why"},
	"internal/mutants":   {nil, "it changes the others' source, and must work while that is broken"},
	"internal/netguard":  {nil, "a guard that depends on nothing can be checked alone"},
	"internal/pgtest":    {[]string{"migrations", "internal/devdb"}, "every package's tests import it, so it must import none of them"},
	"internal/volume":    {nil, "it stores rows by SQL alone, for those who measure"},
	"internal/sample":    {[]string{"outbox", "outbox/outboxotel", "webhook"}, "it is written as a user's programs are: with what users may import"},
	"internal/sqlcheck":  {nil, "every package's tests may import it"},
	"internal/soak":      {[]string{"internal/devdb"}, "Posthorn is a black box to it: a judge that used its code would share its mistakes"},
	"internal/telemetry": {nil, "it sets up providers; what is measured is defined by those who do the work"},
	"internal/typeid":    {nil, "ids are below everything"},
}

// importers restricts who may import a package of this module.
type importers struct {
	only    []string
	because string
}

var importedBy = map[string]importers{
	"cmd/posthorn":     {nil, "a command is nobody's library"},
	"internal/sample":  {[]string{"cmd/posthorn"}, "samples must not become part of the service"},
	"internal/volume":  {[]string{"internal/bench"}, "only those who measure want a database filled"},
	"internal/bench":   {[]string{"cmd/posthorn"}, "measuring must not become part of the service"},
	"internal/mutants": {nil, "a command is nobody's library"},
	"internal/soak":    {nil, "it is for tests"},
	"internal/devdb":   {[]string{"cmd/posthorn", "internal/bench", "internal/pgtest", "internal/soak"}, "the service runs on a database that is given to it"},
	"internal/pgtest":  {nil, "it is for tests"},
}

// foreign restricts which packages may import modules of others. A rule is for
// an import path and all below it.
type foreign struct {
	path    string
	only    []string
	because string
}

var foreignRules = []foreign{
	{"github.com/labstack/echo", []string{"api"},
		"the HTTP framework must be replaceable without touching what it serves"},
	{"github.com/riverqueue/river", []string{"dispatcher", "migrations", "internal/bench"},
		"River is how the dispatcher keeps its work, which nobody else needs to know; the benchmark builds the naive design on it"},
	{"github.com/alecthomas/kong", []string{"cmd/posthorn"},
		"only cmd knows the command line"},
	{"github.com/exaring/otelpgx", []string{"cmd/posthorn"},
		"connections are made, and traced, by cmd"},
	{"github.com/tink-crypto/tink-go", []string{"subscriptions"},
		"one package encrypts secrets"},
	{"go.opentelemetry.io/otel/sdk", []string{"internal/telemetry"},
		"the others use the API and leave it to the binary where measurements go"},
	{"net/http/pprof", nil,
		"it adds routes to http.DefaultServeMux by being imported"},
}

// closed are packages that others import for their programs: the only foreign
// modules that each may depend on.
var closed = map[string]allowed{
	"webhook": {nil, "receivers import it: it must cost them nothing"},
	"outbox":  {[]string{"github.com/jackc/pgx/v5", "github.com/google/uuid"}, "producers import it: it must cost them nothing but pgx"},
	"outbox/outboxotel": {[]string{"github.com/jackc/pgx/v5", "go.opentelemetry.io/otel"},
		"producers with OpenTelemetry have these already"},
	"internal/typeid": {[]string{"github.com/jackc/pgx/v5", "github.com/google/uuid"}, "outbox imports it, so it is bound by the same promise"},
}

// environmentReaders are the packages that may read the environment.
var environmentReaders = allowed{
	imports: []string{"cmd/posthorn", "internal/telemetry", "internal/devdb"},
	because: "only cmd knows the environment; but OTEL_* is the SDK's own, and devdb finds PostgreSQL by PG_BIN and PATH",
}
