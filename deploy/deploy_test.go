package deploy

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// variables are those that Posthorn documents; it refuses to start with others.
var variables = []string{
	"POSTHORN_ADDR", "POSTHORN_OPERATOR_KEY", "POSTHORN_ENCRYPTION_KEYSET",
	"POSTHORN_ALLOW_PRIVATE_NETWORKS", "POSTHORN_ALLOW_HTTP", "POSTHORN_RETRY_SCHEDULE",
	"POSTHORN_ATTEMPT_TIMEOUT", "POSTHORN_RETENTION",
}

// pinned is an image with a version for its tag.
var pinned = regexp.MustCompile(`^[a-z0-9./-]+:[0-9]+(\.[0-9]+)*(-[a-z0-9.]+)?$`)

func TestTheImageIsBuiltStaticFromTheCommand(t *testing.T) {
	t.Parallel()
	build := dockerfileStages(t)[0]
	i := slices.IndexFunc(build, func(in instruction) bool {
		return in.name == "RUN" && strings.Contains(in.args, "go build")
	})
	if i < 0 {
		t.Fatal("nothing is built")
	}
	words := strings.Fields(build[i].args)
	for _, want := range []string{"CGO_ENABLED=0", "-trimpath", "./cmd/posthorn"} {
		if !slices.Contains(words, want) {
			t.Errorf("%s is not in: %s", want, build[i].args)
		}
	}
	if at := slices.Index(words, "CGO_ENABLED=0"); at > slices.Index(words, "go") {
		t.Error("CGO_ENABLED=0 comes after the command it is for")
	}
	if !regexp.MustCompile(`-ldflags "[^"]*-X main\.version=\$VERSION`).MatchString(build[i].args) {
		t.Errorf("the version is not set: %s", build[i].args)
	}
}

func TestTheImageIsBuiltByTheGoOfGoMod(t *testing.T) {
	t.Parallel()
	module := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))
	from := find(t, dockerfileStages(t)[0], "FROM")
	image := regexp.MustCompile(`golang:(\d+\.\d+)`).FindStringSubmatch(from)
	if module == nil || image == nil || module[1] != image[1] {
		t.Errorf("go.mod says %q, the Dockerfile %q", module, image)
	}
}

func TestTheImageRunsAsNobodyOnScratch(t *testing.T) {
	t.Parallel()
	final := dockerfileStages(t)[1]
	if from := find(t, final, "FROM"); from != "scratch" {
		t.Errorf("the image is based on %s", from)
	}
	if user := find(t, final, "USER"); !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(user) {
		t.Errorf("the user is %q, not a number above 0", user)
	}
	if port := find(t, final, "EXPOSE"); port != "8080" {
		t.Errorf("the port is %s", port)
	}
	if !slices.ContainsFunc(final, func(in instruction) bool {
		return in.name == "COPY" && strings.HasSuffix(in.args, " /etc/ssl/certs/ca-certificates.crt")
	}) {
		t.Error("without certificates no https endpoint can be called")
	}
	if slices.ContainsFunc(final, func(in instruction) bool { return in.name == "RUN" }) {
		t.Error("scratch has no shell to RUN anything")
	}
}

func TestTheImagesCommandsExist(t *testing.T) {
	t.Parallel()
	final := dockerfileStages(t)[1]
	var entrypoint, command, check []string
	_, health, _ := strings.Cut(find(t, final, "HEALTHCHECK"), " CMD ")
	for text, into := range map[string]*[]string{
		find(t, final, "ENTRYPOINT"): &entrypoint, find(t, final, "CMD"): &command, health: &check} {
		// The form of JSON is the one that needs no shell.
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	if !slices.Equal(entrypoint, []string{"/posthorn"}) || len(check) == 0 || check[0] != "/posthorn" {
		t.Errorf("the image runs %q and checks with %q", entrypoint, check)
	}
	checkCommand(t, "CMD", command)
	checkCommand(t, "HEALTHCHECK", check[1:])
}

// checkCommand holds a command line against cmd/posthorn.
func checkCommand(t *testing.T, where string, words []string) {
	t.Helper()
	known := readCLI(t)
	if len(words) == 0 || !known.commands[words[0]] {
		t.Errorf("%s: cmd/posthorn has no command %q", where, words)
		return
	}
	for _, word := range words[1:] {
		name, isFlag := strings.CutPrefix(word, "--")
		name, _, _ = strings.Cut(name, "=")
		if !isFlag || !known.flags[name] {
			t.Errorf("%s: cmd/posthorn %s has no flag %s", where, words[0], word)
		}
	}
}

func TestComposeRunsCommandsThatExist(t *testing.T) {
	t.Parallel()
	services := compose(t).Services
	want := []string{"postgres", "posthorn", "sample-shop", "sample-subscriber"}
	if got := slices.Sorted(maps.Keys(services)); !slices.Equal(got, want) {
		t.Fatalf("the services are %v", got)
	}
	for name, service := range services {
		if name != "postgres" {
			checkCommand(t, name, service.Command)
		}
	}
}

func TestComposeImagesArePinned(t *testing.T) {
	t.Parallel()
	file := compose(t)
	for name, service := range file.Services {
		// What is built here needs no pin, but a service must build it.
		if service.Image == file.Services["posthorn"].Image && file.Services["posthorn"].Build == "." {
			continue
		}
		if !pinned.MatchString(service.Image) {
			t.Errorf("%s runs the image %q", name, service.Image)
		}
	}
	for _, stage := range dockerfileStages(t) {
		image := regexp.MustCompile(`^(--platform=\S+ )?(\S+)( AS \S+)?$`).FindStringSubmatch(find(t, stage, "FROM"))
		if image == nil || image[2] != "scratch" && !pinned.MatchString(image[2]) {
			t.Errorf("the Dockerfile starts from %q", image)
		}
	}
}

func TestComposeSetsOnlyVariablesThatExist(t *testing.T) {
	t.Parallel()
	named := regexp.MustCompile(`\bPOSTHORN_[A-Z_]+`)
	for _, file := range []string{"docker-compose.yml", "Dockerfile", "deploy/README.md"} {
		for _, variable := range named.FindAllString(read(t, file), -1) {
			if !slices.Contains(variables, variable) {
				t.Errorf("%s: there is no variable %s", file, variable)
			}
		}
	}
	for name, service := range compose(t).Services {
		for variable, value := range service.Environment {
			if value == "" {
				t.Errorf("%s: %s is empty", name, variable)
			}
		}
	}
}

func TestComposeOpensOnlyTheReceiversNetwork(t *testing.T) {
	t.Parallel()
	file := compose(t)
	posthorn := file.Services["posthorn"]
	config := file.Networks["receivers"].IPAM.Config
	if len(config) != 1 || posthorn.Environment["POSTHORN_ALLOW_PRIVATE_NETWORKS"] != config[0].Subnet {
		t.Errorf("allowed is %q, the network is %v", posthorn.Environment["POSTHORN_ALLOW_PRIVATE_NETWORKS"], config)
	}
	for name, want := range map[string][]string{
		"postgres": {"database"}, "sample-shop": {"database"},
		"posthorn": {"database", "receivers"}, "sample-subscriber": {"receivers"},
	} {
		if got := file.Services[name].Networks; !slices.Equal(got, want) {
			t.Errorf("%s is on %v", name, got)
		}
	}
}

func TestComposeIsReachableFromThisMachineOnly(t *testing.T) {
	t.Parallel()
	for name, service := range compose(t).Services {
		for _, port := range service.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s binds %s", name, port)
			}
		}
		if name == "postgres" {
			continue // its image starts as root and writes in many places
		}
		if !service.ReadOnly || !slices.Equal(service.CapDrop, []string{"ALL"}) ||
			!slices.Contains(service.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s may do more than it needs", name)
		}
	}
}

func TestComposeRefersToWhatItDeclares(t *testing.T) {
	t.Parallel()
	file := compose(t)
	for name, service := range file.Services {
		for _, network := range service.Networks {
			if _, ok := file.Networks[network]; !ok {
				t.Errorf("%s: no network %s", name, network)
			}
		}
		for _, volume := range service.Volumes {
			volume, _, _ = strings.Cut(volume, ":")
			if _, ok := file.Volumes[volume]; !ok {
				t.Errorf("%s: no volume %s", name, volume)
			}
		}
		for other, how := range service.DependsOn {
			needed, ok := file.Services[other]
			if !ok || how.Condition != "service_healthy" {
				t.Errorf("%s waits for %s to be %q", name, other, how.Condition)
			}
			// One without a check never becomes healthy; posthorn's is in its image.
			if needed.Healthcheck.Disable || other != "posthorn" && len(needed.Healthcheck.Test) == 0 {
				t.Errorf("%s waits for %s, which has no health check", name, other)
			}
		}
	}
}

func TestTheBuildContextHasEveryPackage(t *testing.T) {
	t.Parallel()
	allowed := slices.Collect(strings.Lines(read(t, ".dockerignore")))
	for i, line := range allowed {
		allowed[i] = strings.TrimSpace(line)
	}
	if !slices.Contains(allowed, "*") {
		t.Error("everything is sent unless it is named")
	}
	names := []string{"go.mod", "go.sum"}
	packages, err := filepath.Glob("../*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	nested, err := filepath.Glob("../*/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(packages, nested...) {
		name := strings.Split(filepath.ToSlash(path), "/")[1]
		// The binary imports nothing of deploy.
		if name != "deploy" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if !slices.Contains(allowed, "!"+name) {
			t.Errorf(".dockerignore leaves out %s", name)
		}
	}
	for _, line := range allowed {
		if name, ok := strings.CutPrefix(line, "!"); ok {
			if _, err := os.Stat(filepath.Join("..", name)); err != nil {
				t.Errorf(".dockerignore: %v", err)
			}
		}
	}
}
