package sqlcheck

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// suffix is how the name of a statement's constant ends.
const suffix = "SQL"

// constants gives the value of every constant of dir's package that holds a
// statement, by its name. The type checker would need every import of the
// package for that; concatenations of strings need only the syntax.
func constants(dir string) (map[string]string, error) {
	exprs, err := constantExprs(dir)
	if err != nil {
		return nil, err
	}
	statements := map[string]string{}
	for name, expr := range exprs {
		if !strings.HasSuffix(name, suffix) {
			continue
		}
		value, err := evaluate(expr, exprs)
		if err != nil {
			return nil, fmt.Errorf("the constant %s in %s: %w", name, dir, err)
		}
		statements[name] = value
	}
	return statements, nil
}

// constantExprs reads the expression of every constant, in functions too.
func constantExprs(dir string) (map[string]ast.Expr, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	exprs := map[string]ast.Expr{}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		if err := collect(file, exprs); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return exprs, nil
}

// collect adds the file's constants to exprs. Two statements of one name, which
// two functions may have, would hide each other.
func collect(file *ast.File, exprs map[string]ast.Expr) (err error) {
	ast.Inspect(file, func(n ast.Node) bool {
		decl, ok := n.(*ast.GenDecl)
		if !ok || decl.Tok != token.CONST {
			return true
		}
		for _, spec := range decl.Specs {
			spec := spec.(*ast.ValueSpec)
			for i, expr := range spec.Values {
				name := spec.Names[i].Name
				if _, twice := exprs[name]; twice && strings.HasSuffix(name, suffix) {
					err = fmt.Errorf("the constant %s is declared twice", name)
				}
				exprs[name] = expr
			}
		}
		return true
	})
	return err
}

// evaluate gives the value of a concatenation of literals and constants.
func evaluate(expr ast.Expr, exprs map[string]ast.Expr) (string, error) {
	switch e := expr.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			return strconv.Unquote(e.Value)
		}
	case *ast.Ident:
		if of, ok := exprs[e.Name]; ok {
			return evaluate(of, exprs)
		}
	case *ast.ParenExpr:
		return evaluate(e.X, exprs)
	case *ast.BinaryExpr:
		left, err := evaluate(e.X, exprs)
		if err != nil {
			return "", err
		}
		right, err := evaluate(e.Y, exprs)
		return left + right, err
	}
	return "", fmt.Errorf("%T is not a concatenation of strings and of this package's constants", expr)
}
