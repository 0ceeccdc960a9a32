package admission

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Chain runs plugins in the order given. A refusal ends it. It measures how long the plugins take, and is a
// prometheus.Collector of that.
type Chain struct {
	mutators   []stage[Mutator]
	validators []stage[Validator]
	admitting  *timer
	validating *timer
	plugins    *prometheus.HistogramVec
	steps      *prometheus.HistogramVec
}

// stage is one plugin's part in a phase.
type stage[P any] struct {
	plugin Plugin
	act    P
	timer  *timer
}

// NewChain checks that every plugin is a Mutator or a Validator and none is there twice.
func NewChain(plugins ...Plugin) (*Chain, error) {
	c := &Chain{plugins: newPluginSeconds(), steps: newStepSeconds()}
	c.admitting = &timer{seconds: c.steps, labels: []string{phaseAdmit}}
	c.validating = &timer{seconds: c.steps, labels: []string{phaseValidate}}
	seen := map[string]bool{}
	for _, p := range plugins {
		m, mutates := p.(Mutator)
		v, validates := p.(Validator)
		if !mutates && !validates {
			return nil, fmt.Errorf("admission plugin %s neither mutates nor validates", p.Name())
		}
		if seen[p.Name()] {
			return nil, fmt.Errorf("admission plugin %s is there twice", p.Name())
		}
		seen[p.Name()] = true
		if mutates {
			c.mutators = append(c.mutators, stage[Mutator]{p, m, &timer{seconds: c.plugins, labels: []string{phaseAdmit, p.Name()}}})
		}
		if validates {
			c.validators = append(c.validators, stage[Validator]{p, v, &timer{seconds: c.plugins, labels: []string{phaseValidate, p.Name()}}})
		}
	}
	return c, nil
}

// Admit lets every mutator that handles r change its object.
func (c *Chain) Admit(ctx context.Context, r *Request) (err error) {
	began := time.Now()
	last := began
	for i := range c.mutators {
		if s := &c.mutators[i]; s.plugin.Handles(r) {
			err = s.act.Admit(ctx, r)
			if last = s.timer.lap(r.Operation, last, err); err != nil {
				break
			}
		}
	}
	c.admitting.observe(r.Operation, last.Sub(began), err)
	return err
}

// Validate asks every validator that handles r.
func (c *Chain) Validate(ctx context.Context, r *Request) (err error) {
	began := time.Now()
	last := began
	for i := range c.validators {
		if s := &c.validators[i]; s.plugin.Handles(r) {
			err = s.act.Validate(ctx, r)
			if last = s.timer.lap(r.Operation, last, err); err != nil {
				break
			}
		}
	}
	c.validating.observe(r.Operation, last.Sub(began), err)
	return err
}
