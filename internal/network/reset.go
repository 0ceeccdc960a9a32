package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
)

// hostPortTable is the nftables table in which the portmap plugin forwards host ports.
const hostPortTable = "cni_hostport"

// Reset takes away everything that Run and the CNI plugins have put on the machine: the bridge, routes, the table of host
// ports, records and configuration. No pod may be left. Kernel settings stay: others may rely on them by now.
func (n *Network) Reset(ctx context.Context) error {
	var errs []error
	have, err := ourRoutes()
	errs = append(errs, err, applyRoutes(change{remove: have}), deleteLink(n.Bridge))
	for _, family := range []string{"ip", "ip6"} {
		errs = append(errs, deleteTable(ctx, family, hostPortTable))
	}
	errs = append(errs, os.RemoveAll(n.State), removeIfThere(n.conflistFile()))
	return errors.Join(errs...)
}

func deleteLink(name string) error {
	l, err := netlink.LinkByName(name)
	if _, ok := errors.AsType[netlink.LinkNotFoundError](err); ok {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find interface %s: %w", name, err)
	}
	if err := netlink.LinkDel(l); err != nil {
		return fmt.Errorf("remove interface %s: %w", name, err)
	}
	return nil
}

// deleteTable makes the table first, so that deleting it never fails for want of it.
func deleteTable(ctx context.Context, family, table string) error {
	script := fmt.Sprintf("add table %[1]s %[2]s; delete table %[1]s %[2]s", family, table)
	if out, err := exec.CommandContext(ctx, "nft", script).CombinedOutput(); err != nil {
		return fmt.Errorf("remove nftables table %s %s: %w: %s", family, table, err, strings.TrimSpace(string(out)))
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
