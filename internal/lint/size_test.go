package lint

import (
	"go/ast"
	"strings"
	"testing"
)

const (
	maxFile     = 800 // lines
	maxFunction = 100 // lines; a flat table may be longer when its comment says "flat table"
)

func TestSizes(t *testing.T) {
	t.Parallel()
	for _, f := range sources(t) {
		if f.generated() {
			continue
		}
		if f.lines > maxFile {
			t.Errorf("%s: %d lines, at most %d: split it by subject", f.path, f.lines, maxFile)
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || f.test() {
				continue
			}
			n := f.line(fn.End()) - f.line(fn.Pos())
			if n > maxFunction && !strings.Contains(text(fn.Doc), "flat table") {
				t.Errorf("%s:%d: %s has %d lines, at most %d", f.path, f.line(fn.Pos()), fn.Name.Name, n, maxFunction)
			}
		}
	}
}
