package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// source is what the rules judge of one package: its files without tests.
type source struct {
	name    string // the path below the module
	imports []string
	readsAt []string // where it reads the environment
}

// readSources parses every package below the root. Tests and test data may do what
// they like.
func readSources(root fs.FS) (map[string]*source, error) {
	found := map[string]*source{}
	err := fs.WalkDir(root, ".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(file)
		if entry.IsDir() {
			if base == "testdata" || base == "node_modules" || base != "." && strings.HasPrefix(base, ".") {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(base) != ".go" || strings.HasSuffix(base, "_test.go") {
			return nil
		}
		text, err := fs.ReadFile(root, file)
		if err != nil {
			return err
		}
		parsed := token.NewFileSet()
		tree, err := parser.ParseFile(parsed, file, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		name := path.Dir(file)
		if found[name] == nil {
			found[name] = &source{name: name}
		}
		found[name].add(parsed, tree)
		return nil
	})
	return found, err
}

// add takes one file's imports and readings of the environment.
func (s *source) add(files *token.FileSet, tree *ast.File) {
	osName := ""
	for _, spec := range tree.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has seen to that
		}
		if !slices.Contains(s.imports, imported) {
			s.imports = append(s.imports, imported)
		}
		if imported == "os" || imported == "syscall" {
			osName = imported
			if spec.Name != nil {
				osName = spec.Name.Name
			}
			s.addReadings(files, tree, osName)
		}
	}
}

// readers are the functions of os and syscall that read or change the environment.
var readers = []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv", "Setenv", "Unsetenv", "Clearenv"}

func (s *source) addReadings(files *token.FileSet, tree *ast.File, osName string) {
	ast.Inspect(tree, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if of, ok := selector.X.(*ast.Ident); ok && of.Name == osName && slices.Contains(readers, selector.Sel.Name) {
			s.readsAt = append(s.readsAt, files.Position(selector.Pos()).String())
		}
		return true
	})
}

// violations judges all packages by all rules, in a stable order.
func violations(sources map[string]*source) []string {
	var found []string
	for _, s := range sources {
		found = append(found, s.violations()...)
	}
	slices.Sort(found)
	return found
}

func (s *source) violations() []string {
	var found []string
	add := func(because, format string, args ...any) {
		found = append(found, fmt.Sprintf("%s %s: %s", s.name, fmt.Sprintf(format, args...), because))
	}
	own, known := inModule[s.name]
	if !known {
		add("say in rules_test.go what it may import, and why", "is a new package")
		return found
	}
	for _, imported := range s.imports {
		if below, ours := strings.CutPrefix(imported, module+"/"); ours {
			if !slices.Contains(own.imports, below) && !slices.Contains(own.imports, "*") {
				add(own.because, "must not import %s", below)
			}
			if r, restricted := importedBy[below]; restricted && !slices.Contains(r.only, s.name) {
				add(r.because, "must not import %s", below)
			}
			continue
		}
		for _, r := range foreignRules {
			if under(imported, r.path) && !slices.Contains(r.only, s.name) {
				add(r.because, "must not import %s", imported)
			}
		}
		c, isClosed := closed[s.name]
		if isClosed && isForeign(imported) && !slices.ContainsFunc(c.imports, func(p string) bool { return under(imported, p) }) {
			add(c.because, "must not import %s", imported)
		}
	}
	if len(s.readsAt) > 0 && !slices.Contains(environmentReaders.imports, s.name) {
		add(environmentReaders.because, "must not read the environment (%s)", strings.Join(s.readsAt, ", "))
	}
	return found
}

// under reports whether an import path is the given one, a later major version of
// it, or below it.
func under(imported, p string) bool { return imported == p || strings.HasPrefix(imported, p+"/") }

// isForeign reports whether an import path is of neither the standard library nor
// this module.
func isForeign(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return strings.Contains(first, ".") && !under(imported, module)
}

// stale lists rules for packages that do not exist. Those that are planned have
// their rules already.
func stale(sources map[string]*source, planned ...string) []string {
	var found []string
	for name := range inModule {
		if sources[name] == nil && !slices.Contains(planned, name) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

// moduleRoot is where the module lies, from this package's folder.
var moduleRoot = filepath.Join("..", "..")
