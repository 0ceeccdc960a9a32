package builtin

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"canopus/internal/kinds"

	"k8s.io/apimachinery/pkg/runtime/schema"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"
)

// Choose returns the set of the kinds that a runtime configuration asks for, with upstream's words: group/version=true,
// group/version/resource=true, or api/all, api/beta and api/alpha. The finer word counts; without any, what is generally
// available is served and what is beta or alpha is not. What is generally available cannot be turned off, because the parts of
// the control plane read and write it themselves.
func Choose(asked map[string]string) (*kinds.Set, error) {
	words, err := parseWords(asked)
	if err != nil {
		return nil, err
	}
	var chosen []*kinds.Kind
	for _, k := range All() {
		if words.serves(k) {
			chosen = append(chosen, k)
		}
	}
	return kinds.NewSet(chosen...)
}

// The levels of stability that one word can mean.
const (
	everyLevel = "api/all"
	gaLevel    = "api/ga"
	betaLevel  = "api/beta"
	alphaLevel = "api/alpha"
)

// words is a runtime configuration: what is on and what is off, by the words it was said with.
type words map[string]bool

// parseWords checks that each word means something that is there.
func parseWords(asked map[string]string) (words, error) {
	known := map[string]string{everyLevel: "", gaLevel: gaLevel, betaLevel: betaLevel, alphaLevel: alphaLevel}
	for _, k := range All() {
		level := levelOf(k.GVK.GroupVersion())
		known[k.GVK.GroupVersion().String()] = level
		known[k.GVK.GroupVersion().String()+"/"+k.Plural] = level
		for i := range k.Versions {
			v := &k.Versions[i]
			gv := schema.GroupVersion{Group: cmp.Or(v.Group, k.GVK.Group), Version: v.Version}
			known[gv.String()] = levelOf(gv)
		}
	}
	out := words{}
	var errs []error
	for word, value := range asked {
		level, ok := known[word]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("runtime-config: nothing is known as %q; there are %s", word, strings.Join(choices(known), ", ")))
		case value != "" && value != "true" && value != "false":
			errs = append(errs, fmt.Errorf("runtime-config: %s=%s: want true or false", word, value))
		case value == "false" && level == gaLevel:
			errs = append(errs, fmt.Errorf("runtime-config: %s=false: what is generally available cannot be turned off, the control plane uses it itself", word))
		}
		out[word] = value != "false"
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return out, errors.Join(errs...)
}

// choices are the words that change anything.
func choices(known map[string]string) []string {
	out := []string{everyLevel}
	for word, level := range known {
		if level == betaLevel || level == alphaLevel {
			out = append(out, word)
		}
	}
	slices.Sort(out)
	return out
}

// levelOf is the word for a version's stability. That of metrics is beta for good, and there wherever metrics are.
func levelOf(gv schema.GroupVersion) string {
	switch {
	case gv.Group == metricsv1beta1.GroupName:
		return gaLevel
	case strings.Contains(gv.Version, "alpha"):
		return alphaLevel
	case strings.Contains(gv.Version, "beta"):
		return betaLevel
	}
	return gaLevel
}

func (w words) serves(k *kinds.Kind) bool {
	level := levelOf(k.GVK.GroupVersion())
	if level == gaLevel {
		return true
	}
	on, group := false, k.GVK.GroupVersion().String()
	for _, word := range []string{everyLevel, level, group, group + "/" + k.Plural} {
		if said, ok := w[word]; ok {
			on = said
		}
	}
	return on
}
