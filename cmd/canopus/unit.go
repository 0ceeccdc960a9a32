package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"canopus/internal/cli"
)

const (
	unitName = "canopus.service"
	unitFile = "/etc/systemd/system/" + unitName
)

// hasSystemd says whether systemd is the machine's first process, in the way that systemd documents.
func hasSystemd() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// startUnit installs the unit and starts it.
func startUnit(ctx context.Context, server []string, log string) error {
	have, err := os.ReadFile(unitFile)
	if err == nil && !cli.OurUnit(string(have)) {
		return fmt.Errorf("%s was not written by canopus up: start it with systemctl, or remove it first", unitFile)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(unitFile, []byte(cli.Unit(server, log)), 0o644); err != nil {
		return err
	}
	if err := systemctl(ctx, "daemon-reload"); err != nil {
		return err
	}
	return systemctl(ctx, "enable", "--now", unitName)
}

// ourUnit says whether the machine has our unit and it is for this data directory: its log is there.
func ourUnit(cfg *config) bool {
	have, err := os.ReadFile(unitFile)
	return hasSystemd() && err == nil && cli.OurUnit(string(have)) && strings.Contains(string(have), "append:"+logFile(cfg)+"\n")
}

// removeUnit takes back what startUnit did.
func removeUnit(ctx context.Context, cfg *config) error {
	if !ourUnit(cfg) {
		return nil
	}
	err := errors.Join(systemctl(ctx, "disable", "--now", unitName), os.Remove(unitFile))
	return errors.Join(err, systemctl(ctx, "daemon-reload"))
}

func systemctl(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
