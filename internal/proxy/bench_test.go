package proxy

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkPlan is what one change costs in a cluster of 2,000 services with 10 endpoints each.
func BenchmarkPlan(b *testing.B) {
	w := newWorld()
	t := &testing.T{}
	for i := range 2000 {
		w.command(t, strings.Fields(fmt.Sprintf("service ns/s%d clusterIP=10.96.%d.%d port=80", i, i/250+1, i%250)))
		for j := range 10 {
			w.command(t, strings.Fields(fmt.Sprintf("endpoint ns/s%d 10.244.%d.%d:80 node=n%d", i, j, i%250, j)))
		}
	}
	last := w.plan().table
	b.ReportAllocs()
	for b.Loop() {
		now := w.plan().table
		if ops := diff(last, now); len(ops) != 0 {
			b.Fatal("nothing changed")
		}
	}
}
