package main

import (
	"strings"
	"testing"
)

// TestConform counts a behaviour whose test passed, and neither one that failed nor the second of a name whose first passed.
func TestConform(t *testing.T) {
	t.Parallel()
	in := `{"Action":"run","Package":"p","Test":"TestConformance/sig-apps/Deployment_Recreate"}
{"Action":"pass","Package":"p","Test":"TestConformance/sig-apps/Deployment_Recreate","Elapsed":1}
{"Action":"run","Package":"p","Test":"TestConformance/sig-apps/Deployment_Rollover"}
{"Action":"fail","Package":"p","Test":"TestConformance/sig-apps/Deployment_Rollover","Elapsed":1}
{"Action":"run","Package":"p","Test":"TestConformance/sig-network/DNS,_cluster"}
{"Action":"pass","Package":"p","Test":"TestConformance/sig-network/DNS,_cluster","Elapsed":1}
`
	passed := map[string]bool{}
	var out strings.Builder
	if failed, err := report(strings.NewReader(in), &out, passed, false); err != nil || !failed {
		t.Fatalf("failed %v, %v", failed, err)
	}
	for _, missing := range []bool{false, true} {
		out.Reset()
		if err := conform(&out, passed, missing); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"  sig-apps                 1 of  60\n", "  sig-scheduling           0 of  11\n", "  all areas                2 of 446\n"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q is not in\n%s", want, out.String())
			}
		}
		for name, times := range map[string]int{"  Deployment Rollover\n": 1, "  Deployment Recreate\n": 0, "  DNS, cluster\n": 1} {
			if !missing {
				times = 0
			}
			if n := strings.Count(out.String(), name); n != times {
				t.Errorf("missing %v: %q is named %d times, want %d", missing, name, n, times)
			}
		}
	}
}
