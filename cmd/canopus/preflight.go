package main

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"canopus/internal/cluster"
	"canopus/internal/network"
	"canopus/internal/preflight"
)

// released is when the API version that we serve was released. A clock before that is wrong.
func released() time.Time { return time.Date(2026, time.September, 1, 0, 0, 0, 0, time.UTC) }

// needs says what a server or an agent with these settings wants of the machine.
func needs(cfg *config, plane, node bool) preflight.Want {
	w := preflight.Want{
		Node: node, Plane: plane, Bridge: network.DefaultBridge, DataDir: cfg.dataDir, Earlier: released(),
		CA: cluster.Layout{Data: cfg.dataDir}.Certificate("ca"),
	}
	_, err := os.Stat(filepath.Join(cfg.dataDir, "containerd"))
	w.First = err != nil
	if plane {
		_, err := os.Stat(cluster.Layout{Data: cfg.dataDir}.Etcd())
		w.First = err != nil
		w.Ports = append(w.Ports, preflight.Port{Number: cfg.port, For: "API server", Flag: "port"})
	}
	if node {
		w.Ports = append(w.Ports, preflight.Port{Number: cfg.agentPort, For: "node agent", Flag: "agent-port"})
	}
	// What cannot be parsed is left out here and reported by the part that needs it.
	w.Pods, _ = netip.ParsePrefix(cfg.clusterCIDR)
	w.Svcs, _ = netip.ParsePrefix(cfg.serviceCIDR)
	w.DNS, _ = netip.ParseAddr(cfg.clusterDNS)
	_, w.Address = hostAddress(cfg.advertiseAddress)
	return w
}

// inspect returns everything that is wrong with the machine.
func inspect(ctx context.Context, w preflight.Want) ([]preflight.Problem, error) {
	facts, err := preflight.Gather(ctx, w, time.Now())
	if err != nil {
		return nil, err
	}
	return preflight.Check(w, facts), nil
}

// checkMachine refuses to start on a machine that cannot carry us, and logs what is less than ideal.
func checkMachine(ctx context.Context, w preflight.Want, log *slog.Logger) error {
	problems, err := inspect(ctx, w)
	if err != nil {
		return err
	}
	for _, p := range problems {
		if !p.Fatal {
			log.Warn(p.What, "do", p.Do)
		}
	}
	return preflight.Error(problems)
}
