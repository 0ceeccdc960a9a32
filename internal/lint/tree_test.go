package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// file is one parsed Go source file of the project.
type file struct {
	path   string // slash-separated, relative to the module root
	source []byte
	fset   *token.FileSet
	ast    *ast.File
	lines  int
}

func (f *file) test() bool { return strings.HasSuffix(f.path, "_test.go") }

// dir is the package folder: "internal/store".
func (f *file) dir() string { return filepath.ToSlash(filepath.Dir(f.path)) }

func (f *file) line(p token.Pos) int { return f.fset.Position(p).Line }

func (f *file) generated() bool { return ast.IsGenerated(f.ast) }

// tree parses the module once for all rules of this package.
var tree = sync.OnceValues(func() ([]*file, error) {
	var out []*file
	root := os.DirFS("../..")
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path != "." && (skipDir(d.Name()) || ownModule(root, path)) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, path, src, parser.ParseComments)
		if err != nil {
			return err
		}
		out = append(out, &file{path: path, source: src, fset: set, ast: parsed, lines: strings.Count(string(src), "\n")})
		return nil
	})
	return out, err
})

func skipDir(name string) bool {
	return name == "testdata" || name == "bin" || strings.HasPrefix(name, ".")
}

func ownModule(root fs.FS, dir string) bool {
	_, err := fs.Stat(root, dir+"/go.mod")
	return err == nil
}

func sources(t *testing.T) []*file {
	t.Helper()
	files, err := tree()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("found only %d Go files: the walk does not start at the module root", len(files))
	}
	return files
}
