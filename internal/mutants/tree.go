package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// leftOut is what no test needs and a checkout may have: what was built, a database,
// settings.
var leftOut = map[string]bool{"node_modules": true, "bin": true, "data": true, ".env": true, ".git": true}

// copyTree copies a source tree. It needs no git: the tree may be an archive's, or
// somebody else's checkout.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case name != "." && d.IsDir() && (leftOut[name] || strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case leftOut[name]:
			return nil
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		case d.Type().IsRegular():
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(to, name), text, 0o644)
		}
		return nil
	})
}

// writeFiles writes texts into the copy, by their paths.
func writeFiles(tree string, texts map[string]string) error {
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(tree, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// readFiles reads the same files as they are.
func readFiles(tree string, of map[string]string) (map[string]string, error) {
	texts := map[string]string{}
	for name := range of {
		text, err := os.ReadFile(filepath.Join(tree, name))
		if err != nil {
			return nil, err
		}
		texts[name] = string(text)
	}
	return texts, nil
}
