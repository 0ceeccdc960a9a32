package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"canopus/internal/bundle"

	"github.com/spf13/cobra"
)

// kubectlCommand becomes kubectl: it is a program of its own, carried in the bundle, so that a server does not link it.
func kubectlCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "kubectl [arguments]",
		Short:              "Run the built-in kubectl, as the admin of this machine's cluster unless told otherwise",
		Example:            "  canopus kubectl get pods -A\n  canopus kubectl apply -f app.yaml",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			var cfg config
			flags := cmd.Flags()
			cfg.commonFlags(flags)
			if err := cfg.load(flags); err != nil {
				return err
			}
			program, err := bundled(cmd.Context(), &cfg, "kubectl")
			if err != nil {
				return err
			}
			env := os.Environ()
			if os.Getenv("KUBECONFIG") == "" && readable(cfg.kubeconfig) {
				env = append(env, "KUBECONFIG="+cfg.kubeconfig)
			} else if err := someCluster(&cfg, args); err != nil {
				return err
			}
			return syscall.Exec(program, append([]string{"kubectl"}, args...), env)
		},
	}
}

// local are kubectl's commands that ask no server.
var local = []string{"completion", "config", "help", "kustomize", "options", "plugin", "--help", "-h"}

// someCluster fails when nothing tells kubectl which cluster to ask: it would try localhost:8080 and speak of that.
func someCluster(cfg *config, args []string) error {
	if len(args) == 0 || slices.Contains(local, args[0]) || slices.Contains(args, "--client") || slices.Contains(args, "--help") ||
		os.Getenv("KUBECONFIG") != "" || os.Getenv("KUBERNETES_SERVICE_HOST") != "" {
		return nil
	}
	for _, a := range args {
		if name, _, _ := strings.Cut(a, "="); name == "--kubeconfig" || name == "--server" || name == "-s" {
			return nil
		}
	}
	if home, err := os.UserHomeDir(); err == nil && readable(filepath.Join(home, ".kube", "config")) {
		return nil
	}
	if _, err := os.Stat(cfg.kubeconfig); err == nil {
		return fmt.Errorf("%s is the admin's and may be read by root only: use sudo, or name a kubeconfig of your own with --kubeconfig", cfg.kubeconfig)
	}
	return fmt.Errorf("no cluster is set up on this machine (there is no %s): start one with 'canopus up', or name another's kubeconfig with --kubeconfig", cfg.kubeconfig)
}

func readable(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// bundled returns the path of a program of the bundle, unpacked first when need be. Users who may not write to the data
// directory get their own copy below their cache directory.
func bundled(ctx context.Context, cfg *config, name string) (string, error) {
	b, err := bundle.Embedded()
	if err != nil {
		return "", err
	}
	root := binDir(cfg)
	if os.Geteuid() != 0 {
		if p := filepath.Join(bundle.Current(root), name); readable(p) {
			return p, nil
		}
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no place to unpack %s to: %w", name, err)
		}
		root = filepath.Join(cache, "canopus", "bin")
	}
	if err := ensureBundle(ctx, b, root); err != nil {
		return "", err
	}
	return filepath.Join(bundle.Current(root), name), nil
}

func binDir(cfg *config) string { return filepath.Join(cfg.dataDir, "bin") }

// ensureBundle unpacks in a child process, so that the archive never counts to our memory.
func ensureBundle(ctx context.Context, b bundle.Bundle, root string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return b.Ensure(ctx, root, self, "unpack", root)
}

func unpackCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "unpack DIRECTORY",
		Short:  "Unpack the programs that canopus carries",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := bundle.Embedded()
			if err != nil {
				return err
			}
			if err := b.Unpack(args[0]); err != nil {
				if errors.Is(err, fs.ErrPermission) {
					return fmt.Errorf("%w: run as root", err)
				}
				return err
			}
			return nil
		},
	}
}
