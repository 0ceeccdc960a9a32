package main

import (
	"fmt"
	"io"

	"canopus/test/conformance"
)

// conform prints how many behaviours of each area have a test that passed, and the names of the others if missing is set.
func conform(out io.Writer, passed map[string]bool, missing bool) error {
	areas, err := conformance.Areas()
	if err != nil {
		return err
	}
	shown, all := 0, 0
	without := map[string][]string{}
	fmt.Fprintln(out, "\nconformance")
	for _, a := range areas {
		n := 0
		for i, test := range a.TestNames() {
			if passed[test] {
				n++
			} else {
				without[a.Name] = append(without[a.Name], a.Behaviours[i])
			}
		}
		fmt.Fprintf(out, "  %-22s %3d of %3d\n", a.Name, n, len(a.Behaviours))
		shown, all = shown+n, all+len(a.Behaviours)
	}
	fmt.Fprintf(out, "  %-22s %3d of %3d\n", "all areas", shown, all)
	if !missing || shown == all {
		return nil
	}
	fmt.Fprintln(out, "\nnot shown by a test that passed")
	for _, a := range areas {
		for _, name := range without[a.Name] {
			fmt.Fprintf(out, "  %-22s %s\n", a.Name, name)
		}
	}
	return nil
}
