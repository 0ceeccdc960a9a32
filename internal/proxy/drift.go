package proxy

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// drifted says whether the table in the kernel is not the one we wrote. The kernel counts every change of any nftables
// table, so as long as that count stands still there is nothing to look at. It forgets what was applied on drift.
func (p *Proxy) drifted(ctx context.Context) bool {
	if p.applied == nil {
		return false // a whole table is due anyway
	}
	now, err := generation()
	if err != nil {
		p.Log.Warn("nftables cannot be watched for foreign changes", "error", err)
		return false
	}
	if now == p.seen {
		return false
	}
	p.seen = now
	if err := p.verify(ctx); err != nil {
		p.Log.Warn("someone else changed our nftables table; writing it again", "difference", err)
		p.applied = nil
		return true
	}
	return false
}

// verify compares the kernel's table with p.applied: chains, the number of rules in each, and all elements.
func (p *Proxy) verify(ctx context.Context) error {
	want := map[string]int{}
	for name, rules := range p.applied.chains {
		want[name] = len(rules)
	}
	for _, o := range frame(p.ClusterCIDR) {
		if chain, isRule := ruleOf(o.object); isRule {
			want[chain]++
		}
	}
	rules, err := p.nft.ListRules(ctx, "")
	if err != nil {
		return err
	}
	have := map[string]int{}
	for _, r := range rules {
		have[r.Chain]++
	}
	if !maps.Equal(have, want) {
		return fmt.Errorf("the rules of chains %s", strings.Join(differing(have, want), ", "))
	}
	for _, name := range containers() {
		if err := p.verifyElements(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (p *Proxy) verifyElements(ctx context.Context, container string) error {
	kind := "map"
	if isSet(container) {
		kind = "set"
	}
	elements, err := p.nft.ListElements(ctx, kind, container)
	if err != nil {
		return err
	}
	have := map[string]string{}
	for _, e := range elements {
		have[strings.Join(e.Key, " . ")] = strings.Join(e.Value, " . ")
	}
	if !maps.Equal(have, p.applied.elements[container]) {
		return fmt.Errorf("elements of %s: %s", container, strings.Join(differing(have, p.applied.elements[container]), ", "))
	}
	return nil
}

// differing names the first few keys in which the maps differ.
func differing[V comparable](a, b map[string]V) []string {
	var names []string
	for name, v := range a {
		if w, ok := b[name]; !ok || v != w {
			names = append(names, name)
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names[:min(len(names), 5)]
}

// generation asks the kernel how often nftables was changed in this network namespace.
func generation() (uint32, error) {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	replies, err := req.Execute(unix.NETLINK_NETFILTER, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN)
	if err != nil {
		return 0, fmt.Errorf("ask for the nftables generation: %w", err)
	}
	for _, data := range replies {
		if len(data) < nl.SizeofNfgenmsg {
			continue
		}
		attrs, err := nl.ParseRouteAttr(data[nl.SizeofNfgenmsg:])
		if err != nil {
			return 0, fmt.Errorf("ask for the nftables generation: %w", err)
		}
		for _, a := range attrs {
			if a.Attr.Type == unix.NFTA_GEN_ID && len(a.Value) == 4 {
				return binary.BigEndian.Uint32(a.Value), nil
			}
		}
	}
	return 0, fmt.Errorf("ask for the nftables generation: the kernel's answer has none")
}
