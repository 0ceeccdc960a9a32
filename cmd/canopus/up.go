package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"canopus/internal/bundle"
	"canopus/internal/cli"
	"canopus/internal/preflight"
	"canopus/internal/ui"

	"github.com/spf13/cobra"
)

func upCommand() *cobra.Command {
	u := &up{}
	c := command(&cobra.Command{
		Use:   "up",
		Short: "Start Canopus on this machine in the background and wait until it is ready",
		Long: `Start Canopus on this machine in the background and wait until it is ready. It is started again when it dies: by systemd
where that runs, else by a small program of our own. All flags of ` + "`canopus server`" + ` can be given.`,
		Example: `  canopus up                             a cluster of one machine
  canopus up --demo                      with something to look at
  canopus up --data-dir /srv/canopus --cluster-cidr 10.50.0.0/16`,
	}, func(cfg *config, c *cobra.Command) {
		serverFlags(cfg, c)
		c.Flags().BoolVar(&u.demo, "demo", false, "run a small web server and show its address")
		c.Flags().DurationVar(&u.timeout, "timeout", 2*time.Minute, "how long to wait for all of it")
	}, u.run)
	c.PreRunE = func(cmd *cobra.Command, _ []string) (err error) { // before the settings of file and environment are filled in
		u.arguments, err = arguments(cmd.Flags(), serverCommand().Flags())
		return err
	}
	return c
}

// up is one run of `canopus up`.
type up struct {
	demo      bool
	timeout   time.Duration
	arguments []string // for the server

	cfg   *config
	out   io.Writer
	steps *ui.Steps
	crash crashWatch
	began time.Time

	demoAt, answer string // the demo's address and what it said
}

func (u *up) run(ctx context.Context, cmd *cobra.Command, cfg *config) error {
	if os.Geteuid() != 0 {
		return errors.New("starting a cluster takes root: sudo canopus up")
	}
	u.cfg, u.out = cfg, cmd.OutOrStdout()
	u.steps = ui.NewSteps(u.out)
	if err := cfg.checkNetworks(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, u.timeout)
	defer cancel()
	found, err := findProcesses(cfg)
	if err != nil {
		return err
	}
	defer found.close()
	u.began = time.Now()
	switch {
	case found.agent != nil:
		return fmt.Errorf("this machine is a node of another cluster (agent, process %d): `canopus stop` ends that", found.agent.Pid)
	case found.server != nil:
		fmt.Fprintf(u.out, "Canopus runs already (process %d, for %s).\n", found.server.Pid, cli.Age(found.server.Use().Uptime))
		if len(u.arguments) > 0 {
			fmt.Fprintln(u.out, "Other settings take effect after `canopus stop`.")
		}
	default:
		if found.keep != nil { // it starts, or fails to start, again and again
			return u.fail(fmt.Errorf("canopus does not stay up: mend what its log says, then `canopus stop` and `canopus up`"))
		}
		if err := u.start(ctx); err != nil {
			return err
		}
	}
	if err := u.await(ctx); err != nil {
		return u.fail(err)
	}
	if found.server == nil {
		fmt.Fprintf(u.out, "Canopus is up after %.1f s.\n", time.Since(u.began).Seconds())
	}
	u.close()
	return nil
}

// start checks the machine and starts the server in the background.
func (u *up) start(ctx context.Context) error {
	var problems []preflight.Problem
	err := u.steps.Do("check this machine", func(func(string)) (err error) {
		if problems, err = inspect(ctx, needs(u.cfg, true, !u.cfg.noAgent)); err != nil {
			return err
		}
		return preflight.Error(problems)
	})
	if err != nil {
		return err
	}
	for _, p := range problems {
		fmt.Fprintf(u.out, "  note: %s\n", p)
	}
	err = u.steps.Do("unpack containerd, runc, CNI and kubectl", func(func(string)) error {
		b, err := bundle.Embedded()
		if err != nil {
			return err
		}
		return ensureBundle(ctx, b, binDir(u.cfg))
	})
	if err != nil {
		return err
	}
	return u.steps.Do("start canopus", func(func(string)) error {
		log := logFile(u.cfg)
		if err := os.MkdirAll(filepath.Dir(log), 0o755); err != nil {
			return err
		}
		if u.crash, err = watchLog(log); err != nil {
			return err
		}
		self, err := cli.Self()
		if err != nil {
			return err
		}
		server := append([]string{self, "server"}, u.arguments...)
		if hasSystemd() {
			return startUnit(ctx, server, log)
		}
		return u.startKept(server, log)
	})
}

// startKept starts the server below keep, in a session of its own.
func (u *up) startKept(server []string, log string) error {
	if err := os.MkdirAll(u.cfg.runDir, 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	defer f.Close()
	args := []string{"-pid", pidFile(u.cfg, "keep")}
	if !u.cfg.noAgent {
		args = append(args, "-dns", u.cfg.clusterDNS+":53")
	}
	cmd := exec.Command(filepath.Join(bundle.Current(binDir(u.cfg)), "keep"), append(append(args, "--"), server...)...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	u.crash.keep = make(chan error, 1)
	go func() { u.crash.keep <- cmd.Wait() }() // ends with keep, or with us
	return nil
}

// fail prints the end of the log and returns err.
func (u *up) fail(err error) error {
	lines := lastLines(logFile(u.cfg), u.crash.from)
	if len(lines) > 0 {
		fmt.Fprintf(u.out, "The last lines of %s:\n", logFile(u.cfg))
		for _, l := range lines {
			fmt.Fprintf(u.out, "  %s\n", l)
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: canopus goes on trying in the background: `canopus status` tells how far it is, `canopus stop` ends it", err)
	}
	return err
}

// shownLines is how much of a log says why something failed.
const (
	shownLines = 12
	shownBytes = 64 << 10
)

// lastLines returns the end of a log, but nothing before an offset.
func lastLines(path string, from int64) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	data := make([]byte, shownBytes)
	n, err := f.ReadAt(data, max(from, info.Size()-shownBytes))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	lines := strings.Split(strings.TrimSpace(string(data[:n])), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return nil
	}
	return lines[max(0, len(lines)-shownLines):]
}

// crashWatch notices that the server dies again and again, from what its starter writes to the log.
type crashWatch struct {
	log  string
	from int64      // size of the log when we started
	keep chan error // keep itself ended
}

func watchLog(path string) (crashWatch, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return crashWatch{log: path}, nil
	case err != nil:
		return crashWatch{}, err
	}
	return crashWatch{log: path, from: info.Size()}, nil
}

// crashes is how many ends in a row say that it will not come up.
const crashes = 2

// look returns an error once the server has ended several times since we started it.
func (w *crashWatch) look() error {
	if w.log == "" {
		return nil // it ran before us
	}
	select {
	case err := <-w.keep:
		w.keep <- err
		if err == nil {
			return errors.New("canopus was stopped while it started")
		}
		return fmt.Errorf("canopus ended right after its start: %w", err)
	default:
	}
	ended := 0
	for _, line := range lastLines(w.log, w.from) {
		if strings.HasPrefix(line, "keep: ") {
			ended++
		}
	}
	if ended >= crashes {
		return errors.New("canopus ends as soon as it starts: mend what its log says, then `canopus stop` and `canopus up`")
	}
	return nil
}
