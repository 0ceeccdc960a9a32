package lint

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/token"
	"strings"
	"testing"
)

// selector reports whether e is pkg.name.
func selector(e ast.Expr, pkg, name string) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != name {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == pkg
}

func TestNoInit(t *testing.T) {
	t.Parallel()
	for _, f := range sources(t) {
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" && !f.generated() {
				t.Errorf("%s:%d: func init(): call it from the constructor that needs it", f.path, f.line(fn.Pos()))
			}
		}
	}
}

func TestNoSleepInTests(t *testing.T) {
	t.Parallel()
	for _, f := range sources(t) {
		if !f.test() && !strings.HasPrefix(f.path, "test/") {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok && selector(c.Fun, "time", "Sleep") {
				t.Errorf("%s:%d: time.Sleep in a test: wait for the condition or inject the clock", f.path, f.line(c.Pos()))
			}
			return true
		})
	}
}

func TestContextComesFromAbove(t *testing.T) {
	t.Parallel()
	for _, f := range sources(t) {
		if f.test() || !strings.HasPrefix(f.path, "internal/") || strings.HasSuffix(f.dir(), "test") {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok && (selector(c.Fun, "context", "Background") || selector(c.Fun, "context", "TODO")) {
				t.Errorf("%s:%d: a context made below main: take it as a parameter", f.path, f.line(c.Pos()))
			}
			return true
		})
	}
}

// TestErrorsAreWrapped finds fmt.Errorf("… %v", err): the cause must stay reachable for errors.Is.
func TestErrorsAreWrapped(t *testing.T) {
	t.Parallel()
	for _, f := range sources(t) {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			c, ok := n.(*ast.CallExpr)
			if !ok || !selector(c.Fun, "fmt", "Errorf") || len(c.Args) < 2 {
				return true
			}
			format, ok := c.Args[0].(*ast.BasicLit)
			if !ok || strings.Contains(format.Value, "%w") {
				return true
			}
			for _, a := range c.Args[1:] {
				if id, ok := a.(*ast.Ident); ok && id.Name == "err" {
					t.Errorf("%s:%d: fmt.Errorf hides its cause: use %%w for err", f.path, f.line(c.Pos()))
				}
			}
			return true
		})
	}
}

// TestPackageVariablesAreConstant refuses package variables that are declared without a value or written to anywhere in their package.
func TestPackageVariablesAreConstant(t *testing.T) {
	t.Parallel()
	declared := map[string]map[string]string{} // dir → name → position
	for _, f := range sources(t) {
		if f.test() || f.generated() {
			continue
		}
		for name, where := range packageVars(t, f) {
			if declared[f.dir()] == nil {
				declared[f.dir()] = map[string]string{}
			}
			declared[f.dir()][name] = where
		}
	}
	for _, f := range sources(t) {
		if f.test() {
			continue
		}
		names := declared[f.dir()]
		for _, target := range written(f.ast) {
			if where, ok := names[target.Name]; ok && packageScope(f, target) {
				t.Errorf("%s:%d: writes package variable %s (%s): hand it in instead", f.path, f.line(target.Pos()), target.Name, where)
			}
		}
	}
}

// packageScope reports whether id is not resolved to a local declaration of its file.
func packageScope(f *file, id *ast.Ident) bool {
	if id.Obj == nil {
		return true
	}
	return f.ast.Scope.Lookup(id.Name) == id.Obj
}

func packageVars(t *testing.T, f *file) map[string]string {
	out := map[string]string{}
	for _, d := range f.ast.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			embedded := strings.Contains(text(g.Doc)+text(v.Doc), "//go:embed")
			for _, n := range v.Names {
				if n.Name == "_" {
					continue
				}
				out[n.Name] = f.path
				if len(v.Values) == 0 && !embedded {
					t.Errorf("%s:%d: package variable %s has no value: it can only be mutable", f.path, f.line(n.Pos()), n.Name)
				}
			}
		}
	}
	return out
}

func text(c *ast.CommentGroup) string {
	if c == nil {
		return ""
	}
	var b strings.Builder
	for _, l := range c.List {
		b.WriteString(l.Text + "\n")
	}
	return b.String()
}

// written returns the root identifiers of everything assigned, incremented or deleted from in f.
func written(f *ast.File) []*ast.Ident {
	var out []*ast.Ident
	add := func(e ast.Expr) {
		for {
			switch x := e.(type) {
			case *ast.IndexExpr:
				e = x.X
			case *ast.SelectorExpr:
				e = x.X
			case *ast.StarExpr:
				e = x.X
			case *ast.Ident:
				out = append(out, x)
				return
			default:
				return
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.AssignStmt:
			if x.Tok != token.DEFINE {
				for _, l := range x.Lhs {
					add(l)
				}
			}
		case *ast.IncDecStmt:
			add(x.X)
		case *ast.CallExpr:
			if id, ok := x.Fun.(*ast.Ident); ok && id.Name == "delete" && len(x.Args) == 2 {
				add(x.Args[0])
			}
		}
		return true
	})
	return out
}

func TestPackagesAndExportedNamesAreDocumented(t *testing.T) {
	t.Parallel()
	documented := map[string]bool{}
	for _, f := range sources(t) {
		if !f.test() && f.ast.Doc != nil {
			documented[f.dir()] = true
		}
	}
	for _, f := range sources(t) {
		if f.test() || f.generated() {
			continue
		}
		if !documented[f.dir()] {
			documented[f.dir()] = true
			t.Errorf("%s: no package comment: say what the package does and does not do", f.dir())
		}
		for _, d := range f.ast.Decls {
			if name, pos := undocumented(d); name != "" {
				t.Errorf("%s:%d: exported %s has no comment", f.path, f.line(pos), name)
			}
		}
	}
}

// undocumented names an exported function or type of d without a comment. Methods of unexported types and methods that
// implement a standard interface under its usual name need none.
func undocumented(d ast.Decl) (string, token.Pos) {
	switch x := d.(type) {
	case *ast.FuncDecl:
		if x.Doc == nil && x.Name.IsExported() && (x.Recv == nil || exportedReceiver(x.Recv)) && !standard[x.Name.Name] {
			return x.Name.Name, x.Pos()
		}
	case *ast.GenDecl:
		if x.Tok != token.TYPE {
			break
		}
		for _, s := range x.Specs {
			if ts := s.(*ast.TypeSpec); ts.Name.IsExported() && x.Doc == nil && ts.Doc == nil {
				return ts.Name.Name, ts.Pos()
			}
		}
	}
	return "", 0
}

var standard = map[string]bool{"String": true, "Error": true, "Unwrap": true, "Len": true, "Less": true, "Swap": true, "Read": true,
	"Write": true, "Close": true, "ServeHTTP": true, "RoundTrip": true, "Name": true, "Handles": true, "Admit": true, "Validate": true,
	"Is": true, "MarshalJSON": true, "UnmarshalJSON": true, "Handle": true, "Enabled": true, "WithAttrs": true, "WithGroup": true}

func exportedReceiver(r *ast.FieldList) bool {
	e := r.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.IsExported()
		default:
			return false
		}
	}
}

func TestFormatted(t *testing.T) {
	t.Parallel()
	for _, f := range sources(t) {
		formatted, err := format.Source(f.source)
		if err != nil {
			t.Errorf("%s: %v", f.path, err)
			continue
		}
		if !bytes.Equal(formatted, f.source) {
			t.Errorf("%s: run gofmt -w on it", f.path)
		}
	}
}
