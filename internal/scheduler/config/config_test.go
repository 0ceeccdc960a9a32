package config

import (
	"slices"
	"strings"
	"testing"
	"time"

	configv1 "k8s.io/kube-scheduler/config/v1"
)

const head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"

func TestDefault(t *testing.T) {
	t.Parallel()
	c := Default()
	if len(c.Profiles) != 1 || c.Profiles[0].Name != "default-scheduler" || c.FirstBackoff != time.Second || c.LastBackoff != 10*time.Second {
		t.Errorf("%+v", c)
	}
	p := c.Profiles[0]
	for point, want := range map[string]string{
		QueueSort: "PrioritySort", Bind: "DefaultBinder", PostFilter: "DynamicResources, DefaultPreemption", Reserve: "VolumeBinding, DynamicResources",
		Filter: "NodeUnschedulable, NodeName, TaintToleration, NodeAffinity, NodePorts, NodeResourcesFit, VolumeRestrictions, NodeVolumeLimits, " +
			"VolumeBinding, VolumeZone, PodTopologySpread, InterPodAffinity, DynamicResources",
		Score: "TaintToleration, NodeAffinity, NodeResourcesFit, PodTopologySpread, InterPodAffinity, NodeResourcesBalancedAllocation, ImageLocality",
	} {
		if got := names(p.Points[point]); got != want {
			t.Errorf("%s: %s, want %s", point, got, want)
		}
	}
	weights := map[string]int64{}
	for _, s := range p.Points[Score] {
		weights[s.Name] = s.Weight
	}
	if weights["TaintToleration"] != 3 || weights["PodTopologySpread"] != 2 || weights["ImageLocality"] != 1 {
		t.Errorf("weights %v", weights)
	}
	if p.Args.NodeResourcesFit.ScoringStrategy.Type != configv1.LeastAllocated || *p.Args.VolumeBinding.BindTimeoutSeconds != 600 {
		t.Errorf("args %+v", p.Args)
	}
}

// TestPoints reads what one extension point comes to.
func TestPoints(t *testing.T) {
	t.Parallel()
	const scores = "TaintToleration 3, NodeAffinity 2, NodeResourcesFit 1, PodTopologySpread 2, InterPodAffinity 2, NodeResourcesBalancedAllocation 1, ImageLocality 1"
	for name, c := range map[string]struct{ plugins, point, want string }{
		"defaults":            {"{}", Score, scores},
		"weight at the point": {"score: {enabled: [{name: ImageLocality, weight: 7}]}", Score, "ImageLocality 7, " + strings.TrimSuffix(scores, ", ImageLocality 1")},
		"weight everywhere":   {"multiPoint: {enabled: [{name: NodeAffinity, weight: 9}]}", Score, strings.Replace(scores, "NodeAffinity 2", "NodeAffinity 9", 1)},
		"no weight is one":    {"multiPoint: {enabled: [{name: TaintToleration}]}", Score, strings.Replace(scores, "TaintToleration 3", "TaintToleration 1", 1)},
		"one off":             {"score: {disabled: [{name: ImageLocality}]}", Score, strings.TrimSuffix(scores, ", ImageLocality 1")},
		"all off at a point":  {"score: {disabled: [{name: '*'}]}", Score, ""},
		"only these": {"score: {disabled: [{name: '*'}], enabled: [{name: NodeAffinity, weight: 2}, {name: ImageLocality}]}", Score,
			"NodeAffinity 2, ImageLocality 1"},
		"off at one point works at others": {"score: {disabled: [{name: NodeAffinity}]}", Filter,
			"NodeUnschedulable, NodeName, TaintToleration, NodeAffinity, NodePorts, NodeResourcesFit, VolumeRestrictions, NodeVolumeLimits, VolumeBinding, VolumeZone, PodTopologySpread, InterPodAffinity, DynamicResources"},
		"own order": {"multiPoint: {disabled: [{name: '*'}], enabled: [{name: PrioritySort}, {name: DefaultBinder}, {name: NodePorts}, {name: NodeName}]}", Filter,
			"NodePorts, NodeName"},
		"enabled beats disabled": {"multiPoint: {disabled: [{name: DefaultPreemption}]}\npostFilter: {enabled: [{name: DefaultPreemption}]}", PostFilter,
			"DynamicResources, DefaultPreemption"},
		"nothing evicts": {"postFilter: {disabled: [{name: DefaultPreemption}]}", PostFilter, "DynamicResources"},
	} {
		conf, err := Parse([]byte(head + "profiles:\n- plugins:\n    " + strings.ReplaceAll(c.plugins, "\n", "\n    ")))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, p := range conf.Profiles[0].Points[c.point] {
			if c.point == Score {
				got = append(got, p.Name+" "+string(rune('0'+p.Weight)))
			} else {
				got = append(got, p.Name)
			}
		}
		if s := strings.Join(got, ", "); s != c.want {
			t.Errorf("%s: %s\nwant %s", name, s, c.want)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	c, err := Parse([]byte(head + `
parallelism: 4
percentageOfNodesToScore: 30
podInitialBackoffSeconds: 2
podMaxBackoffSeconds: 60
leaderElection: {leaderElect: false, leaseDuration: 30s}
clientConnection: {kubeconfig: /k}
profiles:
- schedulerName: default-scheduler
- schedulerName: packing
  percentageOfNodesToScore: 100
  plugins: {preFilter: {disabled: [{name: InterPodAffinity}]}}
  pluginConfig:
  - name: NodeResourcesFit
    args:
      ignoredResourceGroups: [example.com]
      scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 3}, {name: nvidia.com/gpu}]}
  - name: DefaultPreemption
extenders:
- {urlPrefix: "https://x.example/y", filterVerb: f, httpTimeout: 3s, managedResources: [{name: example.com/gpu, ignoredByScheduler: true}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	p := c.Profiles[1]
	switch {
	case p.Percent != 100 || c.Profiles[0].Percent != 30 || c.LastBackoff != time.Minute || c.Kubeconfig != "/k":
		t.Errorf("%+v", c)
	case *c.LeaderElection.Enabled || c.LeaderElection.Duration != 30*time.Second:
		t.Errorf("%+v", c.LeaderElection)
	case p.Enabled("InterPodAffinity", PreFilter, Filter) || !p.Enabled("InterPodAffinity", PreScore, Score) || !p.Enabled("NodeName", PreFilter, Filter):
		t.Error("a plugin without its preparation works, or one that needs none does not")
	case p.Args.NodeResourcesFit.ScoringStrategy.Resources[1].Weight != 1 || p.Args.NodeResourcesFit.IgnoredResourceGroups[0] != "example.com":
		t.Errorf("%+v", p.Args.NodeResourcesFit)
	case len(c.Extenders) != 1 || c.Extenders[0].HTTPTimeout.Duration != 3*time.Second || !slices.ContainsFunc(c.Notes, func(s string) bool { return strings.HasPrefix(s, "parallelism") }):
		t.Errorf("%+v %v", c.Extenders, c.Notes)
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	args := func(plugin, args string) string {
		return "profiles: [{pluginConfig: [{name: " + plugin + ", args: " + args + "}]}]"
	}
	plugins := func(p string) string { return "profiles: [{plugins: " + p + "}]" }
	for body, want := range map[string]string{
		"parallelsm: 3":                                                               `unknown field "parallelsm"`,
		"profiles: [{schedulerNames: x}]":                                             `unknown field "profiles[0].schedulerNames"`,
		"parallelism: 0":                                                              "parallelism: Invalid value: 0: should be an integer value greater than zero",
		"percentageOfNodesToScore: 101":                                               "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]",
		"podInitialBackoffSeconds: 0":                                                 "podInitialBackoffSeconds: Invalid value: 0: must be greater than 0",
		"podInitialBackoffSeconds: 11":                                                "podMaxBackoffSeconds: Invalid value: 10: must be greater than or equal to PodInitialBackoffSeconds",
		"profiles: [{}, {schedulerName: b}]":                                          "profiles[0].schedulerName: Required value",
		"profiles: [{schedulerName: a}, {schedulerName: a}]":                          `profiles[1].schedulerName: Duplicate value: "a"`,
		"leaderElection: {resourceLock: endpoints}":                                   `leaderElection.resourceLock: Unsupported value: "endpoints"`,
		"leaderElection: {leaseDuration: 5s}":                                         "leaderElection.leaseDuration: Invalid value: \"5s\": LeaseDuration must be greater than RenewDeadline",
		"leaderElection: {resourceNamespace: mine}":                                   `leaderElection.resourceNamespace: Unsupported value: "mine"`,
		plugins("{filter: {enabled: [{name: Foo}]}}"):                                 `profiles[0].plugins.filter.enabled[0].name: Unsupported value: "Foo"`,
		plugins("{filter: {enabled: [{name: ImageLocality}]}}"):                       "profiles[0].plugins.filter.enabled[0].name: Invalid value: \"ImageLocality\": does not extend filter, but score",
		plugins("{score: {enabled: [{name: ImageLocality}, {name: ImageLocality}]}}"): "profiles[0].plugins.score.enabled[1].name: Duplicate value",
		plugins("{score: {disabled: [{name: Foo}]}}"):                                 `profiles[0].plugins.score.disabled[0].name: Unsupported value: "Foo"`,
		plugins("{queueSort: {disabled: [{name: '*'}]}}"):                             "profiles[0].plugins.queueSort: Invalid value: \"\": exactly one queue sort plugin must be enabled",
		plugins("{bind: {disabled: [{name: '*'}]}}"):                                  "profiles[0].plugins.bind: Required value: at least one bind plugin is needed",
		args("Foo", "{}"):                                                             `profiles[0].pluginConfig[0].name: Unsupported value: "Foo"`,
		args("NodeName", "{}"):                                                        "profiles[0].pluginConfig[0].args: Forbidden: plugin NodeName takes no arguments",
		args("InterPodAffinity", "{hardPodAffinityWeight: 101}"):                      "profiles[0].pluginConfig[0].args.hardPodAffinityWeight: Invalid value: 101: not in valid range [0-100]",
		args("InterPodAffinity", "{hardWeight: 1}"):                                   `unknown field "hardWeight"`,
		args("DefaultPreemption", "{minCandidateNodesPercentage: 0, minCandidateNodesAbsolute: 0}"): "cannot be zero at the same time",
		args("NodeResourcesFit", "{scoringStrategy: {type: Random}}"):                               "args.scoringStrategy.type: Unsupported value: \"Random\"",
		args("NodeResourcesFit", "{scoringStrategy: {type: RequestedToCapacityRatio}}"):             "args.scoringStrategy.requestedToCapacityRatio: Required value",
		args("NodeResourcesFit", "{ignoredResourceGroups: [a/b]}"):                                  "resource group name can't contain '/'",
		args("NodeResourcesFit", "{scoringStrategy: {resources: [{name: cpu, weight: 101}]}}"):      "resource weight of cpu not in valid range [1, 100]",
		args("NodeResourcesBalancedAllocation", "{resources: [{name: cpu, weight: 2}]}"):            "resource weight of cpu not in valid range [1, 1]",
		args("PodTopologySpread", "{defaultConstraints: [{maxSkew: 1}]}"):                           "args.defaultingType: Invalid value",
		args("PodTopologySpread", "{defaultingType: List, defaultConstraints: [{maxSkew: 1}]}"):     "args.defaultConstraints[0].topologyKey: Required value",
		args("NodeAffinity", "{addedAffinity: {requiredDuringSchedulingIgnoredDuringExecution: "+
			"{nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Near}]}]}}}"): "args.addedAffinity.requiredDuringSchedulingIgnoredDuringExecution: Invalid value",
		args("VolumeBinding", "{bindTimeoutSeconds: -1}"):                                         "args.bindTimeoutSeconds: Invalid value: -1",
		args("VolumeBinding", "{shape: [{utilization: 0, score: 1}]}"):                            "args.shape: Forbidden",
		"extenders: [{urlPrefix: 'http://x', prioritizeVerb: p}]":                                 "extenders[0].weight: Invalid value: 0: must have a positive weight applied to it",
		"extenders: [{urlPrefix: 'http://x'}]":                                                    "extenders[0]: Required value",
		"extenders: [{urlPrefix: 'x', filterVerb: f}]":                                            "extenders[0].urlPrefix: Invalid value",
		"extenders: [{urlPrefix: 'http://x', bindVerb: b}, {urlPrefix: 'http://y', bindVerb: b}]": "extenders[1].bindVerb: Invalid value: \"b\": only one extender can implement bind",
		"extenders: [{urlPrefix: 'http://x', filterVerb: f, managedResources: [{name: cpu}]}]":    "extenders[0].managedResources[0].name: Invalid value: \"cpu\": is an invalid extended resource name",
	} {
		_, err := Parse([]byte(head + body))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got  %v\n want %s", body, err, want)
		}
	}
	if _, err := Parse([]byte("apiVersion: kubescheduler.config.k8s.io/v1beta3\nkind: KubeSchedulerConfiguration\n")); err == nil || !strings.Contains(err.Error(), "kubescheduler.config.k8s.io/v1 KubeSchedulerConfiguration") {
		t.Errorf("an old version: %v", err)
	}
}
