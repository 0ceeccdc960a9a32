package admission

import (
	"context"
	"fmt"
)

// Chain runs plugins in the order given. A refusal ends it.
type Chain struct {
	mutators   []stage[Mutator]
	validators []stage[Validator]
}

// stage is one plugin's part in a phase.
type stage[P any] struct {
	plugin Plugin
	act    P
}

// NewChain checks that every plugin is a Mutator or a Validator and none is there twice.
func NewChain(plugins ...Plugin) (*Chain, error) {
	c := &Chain{}
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
			c.mutators = append(c.mutators, stage[Mutator]{p, m})
		}
		if validates {
			c.validators = append(c.validators, stage[Validator]{p, v})
		}
	}
	return c, nil
}

// Admit lets every mutator that handles r change its object.
func (c *Chain) Admit(ctx context.Context, r *Request) error {
	for i := range c.mutators {
		if s := &c.mutators[i]; s.plugin.Handles(r) {
			if err := s.act.Admit(ctx, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// Validate asks every validator that handles r.
func (c *Chain) Validate(ctx context.Context, r *Request) error {
	for i := range c.validators {
		if s := &c.validators[i]; s.plugin.Handles(r) {
			if err := s.act.Validate(ctx, r); err != nil {
				return err
			}
		}
	}
	return nil
}
