package admission

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

type refuser struct{ err error }

func (refuser) Name() string                               { return "Refuser" }
func (refuser) Handles(r *Request) bool                    { return r.Operation != Delete }
func (refuser) Admit(context.Context, *Request) error      { return nil }
func (p refuser) Validate(context.Context, *Request) error { return p.err }

func TestChainIsMeasured(t *testing.T) {
	t.Parallel()
	refused := errors.New("no")
	c, err := NewChain(refuser{refused})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	if err := registry.Register(c); err != nil {
		t.Fatal(err)
	}
	for _, op := range []Operation{Create, Create, Delete, "OTHER"} {
		r := &Request{Operation: op}
		if err := c.Admit(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if err := c.Validate(t.Context(), r); op != Delete && !errors.Is(err, refused) {
			t.Fatalf("%s: %v", op, err)
		}
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			line := f.GetName()
			for _, l := range m.GetLabel() {
				line += " " + l.GetName() + "=" + l.GetValue()
			}
			if m.GetHistogram().GetSampleCount() == 2 {
				line += " twice"
			}
			got = append(got, line)
		}
	}
	const plugin, step = "apiserver_admission_controller_admission_duration_seconds", "apiserver_admission_step_admission_duration_seconds"
	want := []string{
		plugin + " name=Refuser operation=CREATE rejected=false type=admit twice",
		plugin + " name=Refuser operation=CREATE rejected=true type=validate twice",
		step + " operation=CREATE rejected=false type=admit twice",
		step + " operation=CREATE rejected=true type=validate twice",
		step + " operation=DELETE rejected=false type=admit",
		step + " operation=DELETE rejected=false type=validate",
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
