package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in, want   string
		failed, packages bool
	}{
		{
			name: "one of each",
			in: `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"T"}
{"Action":"run","Package":"p","Test":"T/a"}
{"Action":"output","Package":"p","Test":"T/a","Output":"=== RUN   T/a\n"}
{"Action":"pass","Package":"p","Test":"T/a","Elapsed":1.5}
{"Action":"run","Package":"p","Test":"T/b"}
{"Action":"output","Package":"p","Test":"T/b","Output":"    x_test.go:3: it broke\n"}
{"Action":"fail","Package":"p","Test":"T/b","Elapsed":0.2}
{"Action":"output","Package":"p","Test":"T","Output":"--- FAIL: T (1.70s)\n"}
{"Action":"fail","Package":"p","Test":"T","Elapsed":1.7}
{"Action":"run","Package":"p","Test":"S"}
{"Action":"output","Package":"p","Test":"S","Output":"    y_test.go:9: needs root: it does much\n"}
{"Action":"skip","Package":"p","Test":"S","Elapsed":0}
{"Action":"output","Package":"p","Output":"FAIL\n"}
{"Action":"fail","Package":"p","Elapsed":1.7}
`,
			want: `ok      T/a (1.5s)
FAIL    T/b (200ms)
          x_test.go:3: it broke
FAIL  T (1.7s)
skip  S: needs root: it does much
package p failed
      FAIL

1 passed, 1 failed, 1 skipped
`,
			failed: true,
		},
		{
			name: "all well",
			in: `{"Action":"run","Package":"p","Test":"T"}
{"Action":"attr","Package":"p","Test":"T","Key":"rate","Value":"7 a second"}
{"Action":"output","Package":"p","Test":"T","Output":"=== ATTR  T rate 7 a second\n"}
{"Action":"pass","Package":"p","Test":"T","Elapsed":0.01}
{"Action":"pass","Package":"p","Elapsed":0.02}
`,
			want: "note  T rate: 7 a second\nok    T (10ms)\n\n1 passed, 0 failed, 0 skipped\n",
		},
		{
			name: "by package: a skipped test and its reason are told all the same",
			in: `{"Action":"run","Package":"p","Test":"T"}
{"Action":"pass","Package":"p","Test":"T","Elapsed":0.01}
{"Action":"run","Package":"p","Test":"S"}
{"Action":"output","Package":"p","Test":"S","Output":"    y_test.go:9: needs root: it does much\n"}
{"Action":"skip","Package":"p","Test":"S","Elapsed":0}
{"Action":"pass","Package":"p","Elapsed":0.02}
`,
			want:     "skip  S: needs root: it does much\nok    p (20ms)\n\n1 passed, 0 failed, 1 skipped\n",
			packages: true,
		},
		{
			name: "nothing compiled",
			in: `x.go:1:1: syntax error
{"Action":"start","Package":"p"}
{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}
{"Action":"fail","Package":"p","Elapsed":0}
`,
			want:   "x.go:1:1: syntax error\npackage p failed\n      FAIL\tp [build failed]\n\n0 passed, 0 failed, 0 skipped\n",
			failed: true,
		},
		{
			name: "a parent that failed by itself",
			in: `{"Action":"run","Package":"p","Test":"T"}
{"Action":"run","Package":"p","Test":"T/a"}
{"Action":"pass","Package":"p","Test":"T/a","Elapsed":0}
{"Action":"output","Package":"p","Test":"T","Output":"    z.go:1: left something behind\n"}
{"Action":"fail","Package":"p","Test":"T","Elapsed":0}
`,
			want:   "ok      T/a (0s)\nFAIL  T (0s)\n          z.go:1: left something behind\n\n1 passed, 1 failed, 0 skipped\n",
			failed: true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			failed, err := report(strings.NewReader(c.in), &out, map[string]bool{}, c.packages)
			if err != nil {
				t.Fatal(err)
			}
			if out.String() != c.want || failed != c.failed {
				t.Errorf("failed %v, printed\n%s\nwant %v\n%s", failed, out.String(), c.failed, c.want)
			}
		})
	}
}

func TestNoOutputIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := report(strings.NewReader(""), &strings.Builder{}, map[string]bool{}, false); err == nil {
		t.Error("no tests at all pass for success")
	}
}
