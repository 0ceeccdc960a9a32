package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"canopus/internal/ui"
)

// Print writes the report for people: what is, then what is wrong.
func Print(out io.Writer, r *Report, now time.Time) error {
	if err := ui.Table(out, []string{"part", "state", "detail"}, rows(r, now)); err != nil {
		return err
	}
	if len(r.Troubles) == 0 {
		_, err := fmt.Fprintln(out, "\nAll is well.")
		return err
	}
	fmt.Fprintln(out)
	for _, t := range r.Troubles {
		if _, err := fmt.Fprintf(out, "! %s\n  → %s\n", t.What, t.Do); err != nil {
			return err
		}
	}
	return nil
}

func rows(r *Report, now time.Time) [][]string {
	var out [][]string
	for _, p := range r.Processes {
		out = append(out, []string{p.Name, "running", fmt.Sprintf("process %d, for %s, %s resident, of which %s its own",
			p.Pid, Age(time.Duration(p.Uptime*float64(time.Second))), size(p.RSS), size(p.RSSAnon))})
	}
	if !r.Running() {
		out = append(out, []string{"server", "not running", ""})
	}
	if c := r.Runtime; c != nil && (c.Running || c.Shims > 0 || r.Running()) {
		state, detail := "not running", ""
		if c.Running {
			state, detail = "running", fmt.Sprintf("process %d, %s resident; ", c.Pid, size(c.RSS))
		}
		out = append(out, []string{"containerd", state, detail + fmt.Sprintf("%d pods with shims of %s", c.Shims, size(c.ShimsRSS))})
	}
	if a := r.API; a != nil {
		detail := strings.TrimSpace(a.Server + " " + a.Version)
		if !a.Ready {
			detail = orElse(a.Error, strings.Join(a.Failing, ", "))
		}
		out = append(out, []string{"API server", word(a.Ready, "ready", "not ready"), detail})
	}
	for _, c := range r.Components {
		out = append(out, []string{c.Name, word(c.Healthy, "ready", "not ready"), c.Detail})
	}
	for _, n := range r.Nodes {
		state := word(n.Ready, "Ready", "NotReady")
		if n.Cordoned {
			state += ",SchedulingDisabled"
		}
		detail := n.Version + ", runs " + n.Pods + " pods"
		if !n.Ready {
			detail = n.Reason
		}
		out = append(out, []string{"node " + n.Name, state, strings.Join(append([]string{detail}, n.Conditions...), ", ")})
	}
	if r.Pods != nil {
		out = append(out, []string{"pods", phases(r.Pods), fmt.Sprintf("%d not ready", len(r.PodsNotReady))})
	}
	if len(r.Certificates) > 0 {
		first := r.Certificates[0]
		out = append(out, []string{"certificates", fmt.Sprint(len(r.Certificates)), fmt.Sprintf("the next to expire is %s, in %d days; they renew themselves", first.Name, int(first.Expires.Sub(now).Hours()/24))})
	}
	if r.Data.Size > 0 {
		out = append(out, []string{"data", size(r.Data.Size), fmt.Sprintf("%s, %s free", r.Data.Dir, size(int64(r.Data.Free)))})
	}
	return out
}

func word(yes bool, a, b string) string {
	if yes {
		return a
	}
	return b
}

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// phases writes how many pods are in each phase, the most first.
func phases(pods map[string]int) string {
	if len(pods) == 0 {
		return "none"
	}
	var names []string
	for name := range pods {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if pods[a] != pods[b] {
			return pods[b] - pods[a]
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%d %s", pods[name], name)
	}
	return strings.Join(names, ", ")
}

func size(bytes int64) string {
	if bytes >= 10<<30 {
		return fmt.Sprintf("%d GiB", bytes>>30)
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}

// Age writes a duration the way people say it.
func Age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return d.Round(time.Second).String()
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
