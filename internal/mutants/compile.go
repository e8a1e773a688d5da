package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
)

// compiler type-checks packages with files replaced, many times quicker than
// building each. The packages that they import are as they are.
type compiler struct {
	tree     string
	packages map[string]listed // by directory, below the tree
	imports  types.Importer
	fset     *token.FileSet
}

// listed is what go list says of a package.
type listed struct {
	Dir, ImportPath, Export string
	GoFiles                 []string
}

// newCompiler makes a compiler of the packages in the given directories.
func newCompiler(tree string, dirs []string) (*compiler, error) {
	args := []string{"list", "-export", "-deps", "-json=Dir,ImportPath,Export,GoFiles"}
	for _, dir := range dirs {
		args = append(args, "./"+dir)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Stderr = tree, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &compiler{tree: tree, packages: map[string]listed{}, fset: token.NewFileSet()}
	exports := map[string]string{}
	for decoder := json.NewDecoder(out); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		exports[p.ImportPath] = p.Export
		if name, err := filepath.Rel(tree, p.Dir); err == nil {
			c.packages[filepath.ToSlash(name)] = p
		}
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	c.imports = importer.ForCompiler(c.fset, "gc", func(name string) (io.ReadCloser, error) { return os.Open(exports[name]) })
	return c, nil
}

// compile checks a package with some of its files replaced.
func (c *compiler) compile(dir string, replaced map[string]string) error {
	p, known := c.packages[dir]
	if !known {
		return fmt.Errorf("no package in %s", dir)
	}
	var files []*ast.File
	for _, name := range p.GoFiles {
		var source any
		if text, ok := replaced[path.Join(dir, name)]; ok {
			source = text
		}
		f, err := parser.ParseFile(c.fset, filepath.Join(p.Dir, name), source, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	_, err := (&types.Config{Importer: c.imports}).Check(p.ImportPath, c.fset, files, nil)
	return err
}
