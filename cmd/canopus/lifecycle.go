package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"canopus/internal/cli"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// serverFlags are the flags of `server`, which `up` passes on to it.
func serverFlags(cfg *config, c *cobra.Command) {
	cfg.networkFlags(c.Flags())
	cfg.apiFlags(c.Flags())
	cfg.agentFlags(c.Flags())
	cfg.electionFlags(c.Flags(), false)
	cfg.schedulerFlags(c.Flags())
	c.Flags().BoolVar(&cfg.noAgent, "no-agent", false, "do not run a node here")
	c.Flags().BoolVar(&cfg.noWorkers, "no-workers", false, "do not run scheduler and controllers here")
}

// lifeCommand makes a command about what runs, or ran, on this machine. Its settings are those that this ran with, unless
// they are given: --data-dir is enough to tell one Canopus from another.
func lifeCommand(c *cobra.Command, flags func(*cobra.Command), run func(*cobra.Command, *config) error) *cobra.Command {
	cfg := &config{}
	given := map[string]bool{}
	cfg.commonFlags(c.Flags())
	serverFlags(cfg, c)
	c.Flags().VisitAll(func(f *pflag.Flag) { f.Hidden = f.Name != "data-dir" && f.Name != "run-dir" && f.Name != "config" })
	if flags != nil {
		flags(c)
	}
	c.Args = cobra.NoArgs
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		cmd.Flags().Visit(func(f *pflag.Flag) { given[f.Name] = true })
		if err := cfg.load(cmd.Flags()); err != nil {
			return err
		}
		if err := recall(cmd.Flags(), cfg, given); err != nil {
			return err
		}
		return run(cmd, cfg)
	}
	return c
}

// recall sets what was not given to what the server or agent on the data directory ran with.
func recall(f *pflag.FlagSet, cfg *config, given map[string]bool) error {
	_, flags, err := cli.ReadSettings(cfg.dataDir)
	if err != nil {
		return err
	}
	for name, value := range flags {
		flag := f.Lookup(name)
		if flag == nil || given[name] {
			continue
		}
		if _, list := flag.Value.(pflag.SliceValue); list {
			continue // names in certificates: of no use to those who look for traces
		}
		if err := f.Set(name, value); err != nil {
			return fmt.Errorf("settings of the last start: --%s: %w", name, err)
		}
	}
	return nil
}

// remember records the settings that a server or agent starts with.
func remember(cmd *cobra.Command, cfg *config) error {
	flags := map[string]string{}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if v := f.Value.String(); v != f.DefValue && f.Name != "data-dir" && f.Name != "help" {
			flags[f.Name] = v
		}
	})
	return cli.WriteSettings(cfg.dataDir, cmd.Name(), flags)
}

// arguments writes the flags that were given, on the command line or in the environment, the way they are to be given to
// another command that has them. Paths are made absolute: the other command runs elsewhere.
func arguments(f *pflag.FlagSet, known *pflag.FlagSet) ([]string, error) {
	var args []string
	var failed error
	f.VisitAll(func(flag *pflag.Flag) {
		value, given := os.LookupEnv(envName(flag.Name))
		if known.Lookup(flag.Name) == nil || !flag.Changed && (!given || value == "") {
			return
		}
		if flag.Changed {
			value = flag.Value.String()
			if list, ok := flag.Value.(pflag.SliceValue); ok {
				value = strings.Join(list.GetSlice(), ",")
			}
		}
		if strings.HasSuffix(flag.Name, "-dir") || flag.Name == "config" || flag.Name == "kubeconfig" || flag.Name == "scheduler-config" {
			absolute, err := filepath.Abs(value)
			if err != nil {
				failed = err
			}
			value = absolute
		}
		args = append(args, "--"+flag.Name+"="+value)
	})
	return args, failed
}

// processes are those of ours that run on this data directory. Each may be nil.
type processes struct{ server, agent, keep *cli.Process }

func findProcesses(cfg *config) (p processes, err error) {
	if p.server, err = cli.FromLock("server", pidFile(cfg, "server")); err != nil {
		return p, err
	}
	if p.agent, err = cli.FromLock("agent", pidFile(cfg, "agent")); err != nil {
		return p, err
	}
	p.keep, err = cli.FromArguments("keep", pidFile(cfg, "keep"), "-pid", pidFile(cfg, "keep"))
	return p, err
}

// main is the process that does the work: a server, else an agent.
func (p processes) main() *cli.Process {
	if p.server != nil {
		return p.server
	}
	return p.agent
}

func (p processes) all() []*cli.Process {
	var all []*cli.Process
	for _, one := range []*cli.Process{p.server, p.agent, p.keep} {
		if one != nil {
			all = append(all, one)
		}
	}
	return all
}

func (p processes) close() {
	for _, one := range p.all() {
		one.Close()
	}
}

func logFile(cfg *config) string { return filepath.Join(cfg.dataDir, "log", "canopus.log") }

// discard is the log of parts that are asked once and never run.
func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
