package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// mutant is a planted bug.
type mutant struct {
	number, name string
	bug, harm    string
	caughtBy     command
	files        []filePatch
}

// filePatch is what it changes in one file.
type filePatch struct {
	path  string
	hunks []hunk
}

// hunk replaces lines by others.
type hunk struct{ before, after string }

// readMutants reads the patches of a directory, in the order of their numbers.
func readMutants(dir fs.FS) ([]mutant, error) {
	names, err := fs.Glob(dir, "*.patch")
	if err != nil {
		return nil, err
	}
	var all []mutant
	for _, name := range names { // sorted
		text, err := fs.ReadFile(dir, name)
		if err != nil {
			return nil, err
		}
		m, err := parseMutant(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		m.number, m.name, _ = strings.Cut(strings.TrimSuffix(path.Base(name), ".patch"), "-")
		if len(all) > 0 && all[len(all)-1].number == m.number {
			return nil, fmt.Errorf("%s: another has its number", name)
		}
		all = append(all, m)
	}
	return all, nil
}

// parseMutant reads a header and a diff.
func parseMutant(text string) (mutant, error) {
	var m mutant
	header, diff, _ := strings.Cut(text, "\n--- ")
	for line := range strings.Lines(header) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "Bug":
			m.bug = value
		case "Harm":
			m.harm = value
		case "Caught-by":
			m.caughtBy = parseCommand(value)
		case "":
		default:
			return m, fmt.Errorf("the header has a line that is none: %q", line)
		}
	}
	if m.bug == "" || m.harm == "" || m.caughtBy.pkg == "" || diff == "" {
		return m, errors.New("a planted bug is Bug, Harm, Caught-by (go test … ./package), and a diff")
	}
	var err error
	m.files, err = parseDiff("--- " + diff)
	return m, err
}

func parseDiff(diff string) ([]filePatch, error) {
	var files []filePatch
	var at *hunk
	for line := range strings.Lines(diff) {
		switch {
		case strings.HasPrefix(line, "--- "):
			at = nil
		case strings.HasPrefix(line, "+++ b/"):
			files = append(files, filePatch{path: strings.TrimSpace(strings.TrimPrefix(line, "+++ b/"))})
		case strings.HasPrefix(line, "@@ ") && len(files) > 0:
			f := &files[len(files)-1]
			f.hunks = append(f.hunks, hunk{})
			at = &f.hunks[len(f.hunks)-1]
		case at == nil:
			return nil, fmt.Errorf("not a unified diff of files in a/ and b/: %q", line)
		case line[0] == ' ' || line == "\n":
			at.before, at.after = at.before+line[min(1, len(line)-1):], at.after+line[min(1, len(line)-1):]
		case line[0] == '-':
			at.before += line[1:]
		case line[0] == '+':
			at.after += line[1:]
		default:
			return nil, fmt.Errorf("not a line of a hunk: %q", line)
		}
	}
	return files, nil
}

// apply gives the file's text with the bug in it.
func (f filePatch) apply(text string) (string, error) {
	for i, h := range f.hunks {
		places := linesAt(text, h.before)
		if len(places) != 1 {
			return "", fmt.Errorf("%s: the old lines of hunk %d stand in it %d times", f.path, i+1, len(places))
		}
		text = text[:places[0]] + h.after + text[places[0]+len(h.before):]
	}
	return text, nil
}

// linesAt finds where the lines begin in the text.
func linesAt(text, lines string) (places []int) {
	for at := 0; at < len(text); {
		if strings.HasPrefix(text[at:], lines) {
			places = append(places, at)
		}
		next := strings.IndexByte(text[at:], '\n')
		if next < 0 {
			break
		}
		at += next + 1
	}
	return places
}

// apply gives the texts of the files that the bug changes, by their paths.
func (m mutant) apply(tree fs.FS) (map[string]string, error) {
	patched := map[string]string{}
	for _, f := range m.files {
		text, err := fs.ReadFile(tree, f.path)
		if err != nil {
			return nil, err
		}
		if patched[f.path], err = f.apply(string(text)); err != nil {
			return nil, err
		}
	}
	return patched, nil
}

// packages are the directories of the files that the bug changes.
func (m mutant) packages() []string {
	var dirs []string
	for _, f := range m.files {
		if dir := path.Dir(f.path); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}
