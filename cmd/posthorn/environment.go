package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// variablePrefix begins the names of Posthorn's own variables.
const variablePrefix = "POSTHORN_"

// unsetEmpty makes an empty variable count as one that is not set: that is what
// files and orchestrators leave where a value is missing.
func unsetEmpty() {
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		if value == "" && (strings.HasPrefix(name, variablePrefix) || name == "DATABASE_URL") {
			os.Unsetenv(name) //nolint:errcheck // the name came from the environment, so it is valid
		}
	}
}

// checkEnvironment refuses variables that look like Posthorn's but are not, which
// are most often misspelt. It names them and never shows a value.
func checkEnvironment(model *kong.Application) error {
	known := variables(model)
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, variablePrefix) && !slices.Contains(known, name) {
			return fmt.Errorf("there is no variable %s; those that there are: %s", name, strings.Join(known, ", "))
		}
	}
	return nil
}

// variables are the names of all that some flag reads, sorted.
func variables(model *kong.Application) []string {
	names := map[string]bool{}
	var visit func(node *kong.Node)
	visit = func(node *kong.Node) {
		for _, flag := range node.Flags {
			for _, name := range flag.Envs {
				names[name] = true
			}
		}
		for _, child := range node.Children {
			visit(child)
		}
	}
	visit(model.Node)
	return slices.Sorted(maps.Keys(names))
}
