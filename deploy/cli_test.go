package deploy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// cli is the command line of cmd/posthorn, read from the struct tags that its
// parser, kong, reads: a field with the tag cmd is a command, every other tagged
// field a flag.
type cli struct {
	commands map[string]bool
	flags    map[string]bool
}

func readCLI(t *testing.T) cli {
	t.Helper()
	const dir = "../cmd/posthorn"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := cli{commands: map[string]bool{}, flags: map[string]bool{}}
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) != ".go" || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, entry.Name()), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		found.addFile(file)
	}
	return found
}

func (c cli) addFile(file *ast.File) {
	ast.Inspect(file, func(n ast.Node) bool {
		field, ok := n.(*ast.Field)
		if !ok || field.Tag == nil || len(field.Names) == 0 {
			return true
		}
		text, err := strconv.Unquote(field.Tag.Value)
		if err != nil {
			return true
		}
		tag := reflect.StructTag(text)
		name, named := tag.Lookup("name")
		if !named {
			name = kebab(field.Names[0].Name)
		}
		if _, isCommand := tag.Lookup("cmd"); isCommand {
			c.commands[name] = true
		} else {
			c.flags[name] = true
		}
		return true
	})
}

// kebab is the name that kong gives to a field: SampleShop is sample-shop, and
// PosthornURL posthorn-url.
func kebab(field string) string {
	runes := []rune(field)
	var b strings.Builder
	for i, r := range runes {
		starts := unicode.IsUpper(r) && i > 0 &&
			(!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1]))
		if starts {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

func TestTheCommandLineIsReadAsKongReadsIt(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "main.go", "package main\ntype commands struct {\n"+
		"Serve serve `cmd:\"\"`\nSampleShop shop `cmd:\"\" hidden:\"\"`\nX x `cmd:\"\" name:\"dev\"`\n}\n"+
		"type serve struct {\nPosthornURL string `help:\"\"`\nAddr string `name:\"address\"`\nplain int\n}", 0)
	if err != nil {
		t.Fatal(err)
	}
	got := cli{commands: map[string]bool{}, flags: map[string]bool{}}
	got.addFile(file)
	want := cli{
		commands: map[string]bool{"serve": true, "sample-shop": true, "dev": true},
		flags:    map[string]bool{"posthorn-url": true, "address": true},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read %v", got)
	}
}
