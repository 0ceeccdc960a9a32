// Package config reads the scheduler's configuration file, kubescheduler.config.k8s.io/v1 KubeSchedulerConfiguration, into
// something complete: defaults filled in, plugins resolved per extension point, every name and number checked. It does not
// know what the plugins do.
//
// Read config.go (the file and its outcome), plugins.go (which plugin works where), args.go (arguments of plugins), check.go
// (what is refused).
package config

import (
	"fmt"
	"os"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	configv1 "k8s.io/kube-scheduler/config/v1"
	"k8s.io/utils/ptr"
)

// Configuration is all that a configuration file says, complete.
type Configuration struct {
	Profiles       []Profile
	Extenders      []configv1.Extender
	FirstBackoff   time.Duration // of a pod that was refused once
	LastBackoff    time.Duration // the longest
	LeaderElection LeaderElection
	Kubeconfig     string   // "": as the process is told otherwise
	Notes          []string // what is accepted without an effect here, for the log
}

// LeaderElection is what the file says about standing for election. What is zero is as for every part of Canopus.
type LeaderElection struct {
	Enabled                *bool
	Name                   string // of the Lease
	Duration, Renew, Retry time.Duration
}

// Profile is one scheduler name and the plugins that work for its pods.
type Profile struct {
	Name    string // pods with this spec.schedulerName
	Percent int    // of the nodes to find fitting, 0: adaptive
	Points  map[string][]Plugin
	Args    Args
}

// Plugin is a plugin enabled at one extension point, with its weight if it scores there.
type Plugin struct {
	Name   string
	Weight int64
}

// Enabled reports whether a plugin works at all of some extension points, those aside that it does not know.
func (p *Profile) Enabled(name string, points ...string) bool {
	known := pointsOf(name)
	for _, point := range points {
		if slices.Contains(known, point) && !slices.ContainsFunc(p.Points[point], func(e Plugin) bool { return e.Name == name }) {
			return false
		}
	}
	return true
}

// Default is the configuration of a scheduler that was given no file.
func Default() *Configuration {
	c, err := resolve(&configv1.KubeSchedulerConfiguration{})
	if err != nil { // the empty configuration is correct
		panic(err)
	}
	return c
}

// Load reads a file.
func Load(path string) (*Configuration, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("scheduler configuration: %w", err)
	}
	c, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("scheduler configuration %s: %w", path, err)
	}
	return c, nil
}

// Parse reads YAML or JSON. Unknown fields and plugins are errors, each with its path.
func Parse(data []byte) (*Configuration, error) {
	scheme := runtime.NewScheme()
	if err := configv1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	object, kind, err := decoder.Decode(data, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("want a %s KubeSchedulerConfiguration: %w", configv1.SchemeGroupVersion, err)
	}
	file, ok := object.(*configv1.KubeSchedulerConfiguration)
	if !ok {
		return nil, fmt.Errorf("want a KubeSchedulerConfiguration, this is a %s", kind.Kind)
	}
	for i := range file.Profiles {
		for j := range file.Profiles[i].PluginConfig {
			if args := &file.Profiles[i].PluginConfig[j].Args; len(args.Raw) == 0 {
				args.Raw = []byte("{}")
			}
		}
	}
	if err := file.DecodeNestedObjects(decoder); err != nil {
		return nil, err
	}
	return resolve(file)
}

const (
	firstBackoffSeconds = 1
	lastBackoffSeconds  = 10
)

// resolve fills in what file leaves out, and checks it.
func resolve(file *configv1.KubeSchedulerConfiguration) (*Configuration, error) {
	if len(file.Profiles) == 0 {
		file.Profiles = []configv1.KubeSchedulerProfile{{}}
	}
	if first := &file.Profiles[0]; len(file.Profiles) == 1 && first.SchedulerName == nil {
		first.SchedulerName = ptr.To(corev1.DefaultSchedulerName)
	}
	errs := checkFile(file)
	c := &Configuration{
		Extenders:    file.Extenders,
		FirstBackoff: time.Duration(ptr.Deref(file.PodInitialBackoffSeconds, firstBackoffSeconds)) * time.Second,
		LastBackoff:  time.Duration(ptr.Deref(file.PodMaxBackoffSeconds, lastBackoffSeconds)) * time.Second,
		Kubeconfig:   file.ClientConnection.Kubeconfig,
		Notes:        notes(file),
		LeaderElection: LeaderElection{
			Enabled: file.LeaderElection.LeaderElect, Name: file.LeaderElection.ResourceName,
			Duration: file.LeaderElection.LeaseDuration.Duration, Renew: file.LeaderElection.RenewDeadline.Duration, Retry: file.LeaderElection.RetryPeriod.Duration,
		},
	}
	for i := range file.Profiles {
		from, path := &file.Profiles[i], field.NewPath("profiles").Index(i)
		p := Profile{Name: ptr.Deref(from.SchedulerName, ""), Percent: int(ptr.Deref(from.PercentageOfNodesToScore, ptr.Deref(file.PercentageOfNodesToScore, 0)))}
		var more field.ErrorList
		p.Points, more = resolvePlugins(from.Plugins, path.Child("plugins"))
		errs = append(errs, more...)
		p.Args, more = resolveArgs(from.PluginConfig, path.Child("pluginConfig"))
		errs = append(errs, more...)
		c.Profiles = append(c.Profiles, p)
	}
	errs = append(errs, checkOrder(c.Profiles)...)
	return c, errs.ToAggregate()
}

// notes lists what is said in vain.
func notes(file *configv1.KubeSchedulerConfiguration) []string {
	var out []string
	if file.Parallelism != nil {
		out = append(out, "parallelism: one goroutine decides about all pods")
	}
	if file.ClientConnection.QPS != 0 || file.ClientConnection.Burst != 0 {
		out = append(out, "clientConnection.qps and burst: the API server alone limits requests")
	}
	if file.ClientConnection.ContentType != "" || file.ClientConnection.AcceptContentTypes != "" {
		out = append(out, "clientConnection.contentType and acceptContentTypes: the encoding is chosen by the client")
	}
	if ptr.Deref(file.EnableProfiling, false) || ptr.Deref(file.EnableContentionProfiling, false) {
		out = append(out, "enableProfiling: profiles are not served")
	}
	return out
}
