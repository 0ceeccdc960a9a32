package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"canopus/internal/client"
	"canopus/internal/why"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/tools/clientcmd"
)

// Exit codes of why besides 0; 1 is that of every command that could not do its work.
const (
	exitBroken  = 2
	exitWaiting = 3
)

// whyTime is how long all questions together may take.
const whyTime = time.Minute

// asking is how `why` is called.
type asking struct {
	kubeconfig                 string // given by flag; beats everything else
	context, namespace, output string
}

func whyCommand() *cobra.Command {
	var a asking
	c := &cobra.Command{
		Use:   "why KIND/NAME",
		Short: "Explain the state of an object, and what to do when it is not well",
		Long: `Explain the state of an object: follow the chain from a refused quota over the scheduler's verdict, volumes, images, init
containers and probes to exit codes and last log lines, and say what to do. Pods, workloads, Jobs, CronJobs, claims, Services
and nodes have a chain, as have autoscalers, disruption budgets and resource claims; of other kinds conditions and warnings are told. It
sees what the user of the kubeconfig may see.

With -o json the answer is one object: kind, namespace, name, state (fine, waiting or broken), summary, and findings, a list in the order
of the chain. Each has link (quota, schedule, volume, image, probe, …), severity (error, warning, waiting or note), reason, object, message
and, where there is more to say, count, of and objects (the pods that have it), details, container and log, verdict (what the scheduler
found, per node) and do (what to do). For a pod, verdict says how it got its node; unseen lists what could not be looked at. Fields are
added in later versions, never renamed or removed.

Exit code 0: it is as declared; 1: that could not be found out; 2: something is wrong; 3: nothing is wrong, but it is not
there yet.`,
		Example: "  canopus why deployment/web\n  canopus why pod/web-0 -n shop\n  canopus why node/n1 -o json",
		Args:    cobra.ArbitraryArgs, // why.ParseTarget says it better
	}
	c.Flags().StringVar(&a.kubeconfig, "kubeconfig", "", "kubeconfig of the user who asks (default: KUBECONFIG, else the admin's of this machine, else ~/.kube/config)")
	c.Flags().StringVar(&a.context, "context", "", "context of the kubeconfig")
	c.Flags().StringVarP(&a.namespace, "namespace", "n", "", "namespace of the object (default: that of the context)")
	c.Flags().StringVarP(&a.output, "output", "o", "", "json: as one JSON object, see above")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), whyTime)
		defer cancel()
		r, err := a.ask(ctx, args)
		if err != nil {
			return err
		}
		if err := a.print(cmd.OutOrStdout(), r); err != nil {
			return err
		}
		switch r.State {
		case why.Broken:
			return &exitError{exitBroken}
		case why.OnWay:
			return &exitError{exitWaiting}
		}
		return nil
	}
	return c
}

// ask finds out about the object.
func (a *asking) ask(ctx context.Context, args []string) (*why.Report, error) {
	if a.output != "" && a.output != "json" {
		return nil, fmt.Errorf("--output %q: only json is known", a.output)
	}
	if _, err := why.ParseTarget(args, ""); err != nil {
		return nil, err
	}
	kubeconfig, err := a.loader()
	if err != nil {
		return nil, err
	}
	namespace, _, err := kubeconfig.Namespace()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	target, err := why.ParseTarget(args, namespace)
	if err != nil {
		return nil, err
	}
	config, err := kubeconfig.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w", err)
	}
	access, err := client.FromConfig(config, "canopus-why")
	if err != nil {
		return nil, err
	}
	facts, err := why.Gather(ctx, access.Client, target, time.Now())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", target, err)
	}
	return why.Explain(facts), nil
}

// loader finds the kubeconfig as `canopus kubectl` does.
func (a *asking) loader() (clientcmd.ClientConfig, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules() // KUBECONFIG, or ~/.kube/config
	rules.ExplicitPath = a.kubeconfig
	if a.kubeconfig == "" && os.Getenv(clientcmd.RecommendedConfigPathEnvVar) == "" {
		cfg := &config{}
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		cfg.commonFlags(flags)
		if err := cfg.load(flags); err != nil {
			return nil, err
		}
		if readable(cfg.kubeconfig) {
			rules.ExplicitPath = cfg.kubeconfig
		}
	}
	overrides := &clientcmd.ConfigOverrides{CurrentContext: a.context}
	overrides.Context.Namespace = a.namespace
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides), nil
}

func (a *asking) print(out io.Writer, r *why.Report) error {
	if a.output == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(r)
	}
	return why.Print(out, r)
}
