package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"canopus/internal/cli"
	"canopus/internal/ui"

	"github.com/spf13/cobra"
)

const (
	stopPatience = 30 * time.Second // a server that was asked to end and has not is killed
	podGrace     = 30               // seconds that containers get to end
)

func stopCommand() *cobra.Command {
	var pods bool
	return lifeCommand(&cobra.Command{
		Use:   "stop",
		Short: "Stop Canopus; pods go on running unless told otherwise",
		Long: `Stop Canopus on this machine. Pods and containerd go on running, and the next ` + "`canopus up`" + ` finds them again;
with --pods they are stopped too.`,
		Example: `  canopus stop
  canopus stop --pods                    stop the pods and containerd as well`,
	}, func(c *cobra.Command) {
		c.Flags().BoolVar(&pods, "pods", false, "stop the pods and containerd too")
	}, func(cmd *cobra.Command, cfg *config) error {
		if err := needRoot("stopping canopus"); err != nil {
			return err
		}
		return stop(cmd.Context(), cmd.OutOrStdout(), cfg, pods)
	})
}

func needRoot(what string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s takes root: use sudo", what)
	}
	return nil
}

func stop(ctx context.Context, out io.Writer, cfg *config, pods bool) error {
	steps := ui.NewSteps(out)
	stopped, err := stopServer(ctx, out, steps, cfg)
	if err != nil {
		return err
	}
	if !stopped {
		fmt.Fprintln(out, "Canopus does not run.")
	}
	if cfg.runtimeEndpoint != "" {
		return nil // pods of a runtime that is not ours
	}
	runtime, err := newRuntime(cfg, discard())
	if err != nil {
		return err
	}
	s, err := runtime.Status()
	if err != nil {
		return err
	}
	switch {
	case pods && (s.Running || s.Shims > 0):
		return steps.Do(fmt.Sprintf("stop %d pods and containerd", s.Shims), func(func(string)) error { return runtime.Down(ctx, podGrace) })
	case s.Shims > 0:
		fmt.Fprintf(out, "%d pods go on running: `canopus up` finds them again, `canopus stop --pods` stops them.\n", s.Shims)
	}
	return nil
}

// stopServer ends the server or agent and what starts it again. stopped says that there was something to stop.
func stopServer(ctx context.Context, out io.Writer, steps *ui.Steps, cfg *config) (stopped bool, err error) {
	if ourUnit(cfg) && systemctl(ctx, "is-active", unitName) == nil {
		return true, steps.Do("stop canopus (systemd unit)", func(func(string)) error { return systemctl(ctx, "stop", unitName) })
	}
	found, err := findProcesses(cfg)
	if err != nil {
		return false, err
	}
	defer found.close()
	if len(found.all()) == 0 {
		return false, nil
	}
	var killed []*cli.Process
	err = steps.Do("stop canopus ("+names(found.all())+")", func(func(string)) error {
		// keep first: it passes the signal on, and does not start the server again.
		for _, p := range []*cli.Process{found.keep, found.server, found.agent} {
			if p == nil {
				continue
			}
			was, err := endProcess(ctx, p, found)
			if err != nil {
				return err
			}
			if was {
				killed = append(killed, p)
			}
		}
		return nil
	})
	for _, p := range killed {
		fmt.Fprintf(out, "  %s (process %d) did not end within %s and was killed.\n", p.Name, p.Pid, stopPatience)
	}
	return true, err
}

// names writes processes as "server 12, keep 11".
func names(list []*cli.Process) string {
	words := make([]string, len(list))
	for i, p := range list {
		words[i] = fmt.Sprintf("%s %d", p.Name, p.Pid)
	}
	return strings.Join(words, ", ")
}

// endProcess ends p. keep ends only after its command, so it is that one which is killed when time is up.
func endProcess(ctx context.Context, p *cli.Process, found processes) (killed bool, err error) {
	worker := found.main()
	if p.Name != "keep" || worker == nil {
		return p.End(ctx, stopPatience)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return false, err
	}
	polite, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	if err := p.Wait(polite); err == nil || ctx.Err() != nil {
		return false, err
	}
	_, first := worker.End(ctx, time.Second)
	_, second := p.End(ctx, stopPatience)
	return true, errors.Join(first, second)
}
