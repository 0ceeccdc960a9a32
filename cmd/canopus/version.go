package main

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/version"
)

// kubernetesVersion is the version of the API we serve: that of the k8s.io/* modules in go.mod.
const kubernetesVersion = "1.37.2"

// release, commit and built (the commit's time) are set by the linker: see LDFLAGS in the Makefile.
var (
	release = defaultRelease
	commit  = defaultCommit
	built   = defaultBuilt
)

// serverVersion is what /version answers.
func serverVersion() version.Info {
	return version.Info{
		Major:        "1",
		Minor:        "37",
		GitVersion:   "v" + kubernetesVersion + "+canopus." + release,
		GitCommit:    commit,
		GitTreeState: "clean",
		BuildDate:    built,
		GoVersion:    runtime.Version(),
		Compiler:     runtime.Compiler,
		Platform:     runtime.GOOS + "/" + runtime.GOARCH,
	}
}

func versionCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  canopus version\n  canopus version -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := serverVersion()
			switch output {
			case "":
				fmt.Fprintf(cmd.OutOrStdout(), "canopus %s (Kubernetes %s, commit %s, %s)\n", release, kubernetesVersion, commit, v.GoVersion)
				return nil
			case "json":
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(v)
			}
			return fmt.Errorf("--output %q: only json is known", output)
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	return c
}

// buildInfo is serverVersion as a metric, under upstream's name. Each page of metrics shows one.
func buildInfo() prometheus.Collector {
	v := serverVersion()
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "kubernetes_build_info", Help: "1, with the version and what it was built from and with.",
		ConstLabels: prometheus.Labels{
			"major": v.Major, "minor": v.Minor, "git_version": v.GitVersion, "git_commit": v.GitCommit, "git_tree_state": v.GitTreeState,
			"build_date": v.BuildDate, "go_version": v.GoVersion, "compiler": v.Compiler, "platform": v.Platform,
		}})
	g.Set(1)
	return g
}
