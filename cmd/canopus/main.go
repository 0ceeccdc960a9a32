// Command canopus is Kubernetes in one binary. This package is flags, wiring and signals, and the only one that knows every
// room of the house. Reading order:
//
//	main.go    the list of commands
//	config.go  every setting: flag = configuration key = environment variable
//	server.go  what a server is made of, in the order in which it starts
//	agent.go   the same for a node
//	up.go, stop.go, reset.go, status.go  the life of a cluster on this machine
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// What a build without the Makefile says of itself.
const (
	defaultRelease = "0.0.0"
	defaultCommit  = "unknown"
	defaultBuilt   = "1970-01-01T00:00:00Z"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	root := rootCommand()
	if err := root.ExecuteContext(ctx); err != nil {
		var exit *exitError
		if errors.As(err, &exit) {
			os.Exit(exit.code)
		}
		fmt.Fprintln(os.Stderr, "canopus:", err)
		os.Exit(1)
	}
}

// exitError ends the process with code; what there is to say has been said.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit %d", e.code) }

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "canopus",
		Short: "Kubernetes in one binary",
		Long: `Canopus is Kubernetes in one binary: control plane, node, network, DNS and kubectl.

Every flag can also stand in /etc/canopus/config.yaml under its name, or in the
environment as CANOPUS_ and its name in capitals with underscores.`,
		Example: `  canopus up --demo                      start a cluster on this machine, with something to look at
  canopus status                         how it is
  canopus why deployment/web             why something is as it is, and what to do
  canopus kubectl get pods -A            the kubectl everyone knows
  canopus stop                           stop Canopus; pods go on running`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	for _, make := range []func() *cobra.Command{
		upCommand, stopCommand, resetCommand, statusCommand, whyCommand, kubectlCommand, versionCommand,
		serverCommand, agentCommand, apiserverCommand, controllersCommand, schedulerCommand, issueNodeCommand, unpackCommand, hollowCommand,
	} {
		root.AddCommand(make())
	}
	return root
}

// command makes a command whose settings come from flags, environment and file before run is called.
func command(c *cobra.Command, flags func(*config, *cobra.Command), run func(ctx context.Context, cmd *cobra.Command, cfg *config) error) *cobra.Command {
	cfg := &config{}
	cfg.commonFlags(c.Flags())
	if flags != nil {
		flags(cfg, c)
	}
	if c.Args == nil {
		c.Args = cobra.NoArgs
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := cfg.load(cmd.Flags()); err != nil {
			return err
		}
		return run(cmd.Context(), cmd, cfg)
	}
	return c
}
