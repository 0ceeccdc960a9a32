package builtin_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"canopus/internal/kinds/builtin"
)

func TestChoose(t *testing.T) {
	t.Parallel()
	group := schema.GroupVersionResource{Group: "scheduling.k8s.io", Version: "v1beta1", Resource: "podgroups"}
	workload := group.GroupVersion().WithResource("workloads")
	pods := schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	for name, c := range map[string]struct {
		asked           map[string]string
		group, workload bool
	}{
		"nothing is said":            {nil, false, false},
		"everything":                 {map[string]string{"api/all": "true"}, true, true},
		"all beta":                   {map[string]string{"api/beta": "true"}, true, true},
		"all alpha":                  {map[string]string{"api/alpha": "true"}, false, false},
		"the version":                {map[string]string{"scheduling.k8s.io/v1beta1": ""}, true, true},
		"one resource":               {map[string]string{"scheduling.k8s.io/v1beta1/podgroups": "true"}, true, false},
		"the finer word counts":      {map[string]string{"api/all": "true", "scheduling.k8s.io/v1beta1": "false"}, false, false},
		"the finest word counts":     {map[string]string{"scheduling.k8s.io/v1beta1": "true", "scheduling.k8s.io/v1beta1/workloads": "false"}, true, false},
		"off is off already":         {map[string]string{"api/beta": "false"}, false, false},
		"what is stable is accepted": {map[string]string{"v1": "true", "apps/v1": "true", "api/ga": "true"}, false, false},
	} {
		set, err := builtin.Choose(c.asked)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_, g := set.Resource(group)
		_, w := set.Resource(workload)
		_, p := set.Resource(pods)
		if g != c.group || w != c.workload || !p {
			t.Errorf("%s: podgroups %v, workloads %v, pods %v", name, g, w, p)
		}
	}
	for word, want := range map[string]string{
		"scheduling.k8s.io/v1beta2": `nothing is known as "scheduling.k8s.io/v1beta2"; there are api/all, `,
		"api/gamma":                 `nothing is known as "api/gamma"`,
		"api/beta=maybe":            "api/beta=maybe: want true or false",
		"v1=false":                  "v1=false: what is generally available cannot be turned off",
		"api/ga=false":              "api/ga=false: what is generally available cannot be turned off",
		"apps/v1=false":             "apps/v1=false: what is generally available",
	} {
		key, value, _ := strings.Cut(word, "=")
		if _, err := builtin.Choose(map[string]string{key: value}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", word, err, want)
		}
	}
}
