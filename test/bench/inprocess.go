package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// inProcess runs the scheduler's own benchmark: the same rows without an API server, so that what the scheduler can do and what
// the way through the API costs stand side by side. It needs the source tree.
func (b *bench) inProcess(ctx context.Context, chosen []row, sizes []int) error {
	var names, nodes []string
	for _, r := range chosen {
		names = append(names, r.name)
	}
	for _, n := range sizes {
		nodes = append(nodes, strconv.Itoa(n))
	}
	cmd := exec.CommandContext(ctx, "go", "test", "./internal/scheduler", "-run", "^$", "-benchtime", fmt.Sprintf("%dx", b.pods),
		"-bench", fmt.Sprintf("^BenchmarkSchedule$/^(%s)$/^nodes=(%s)$", strings.Join(names, "|"), strings.Join(nodes, "|")))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("measure in process: %w\n%s", err, out.String())
	}
	// The last number before pods/s, of a line that begins with the row and the number of nodes.
	line := regexp.MustCompile(`(?m)^BenchmarkSchedule/([a-z-]+)/nodes=(\d+)\S*\s.*?([0-9.e+]+) pods/s`)
	found := line.FindAllStringSubmatch(out.String(), -1)
	if len(found) != len(chosen)*len(sizes) {
		return fmt.Errorf("measure in process: %d rows in place of %d\n%s", len(found), len(chosen)*len(sizes), out.String())
	}
	for _, m := range found {
		rate, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			return fmt.Errorf("measure in process: %w", err)
		}
		b.say("sched."+m[1]+"."+m[2]+".process", rate, "pod/s", 0)
	}
	fmt.Fprintln(os.Stderr, "  load average:", load())
	return nil
}
